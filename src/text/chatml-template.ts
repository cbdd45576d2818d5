/**
 * ChatML, the layout of Qwen's chats, with images, as a Jinja template for folders that Patina writes: a line end after each
 * image, `<|im_end|>` and a line end after each message. Contents are strings or lists of parts.
 */
export const CHATML_TEMPLATE = [
  '{% for message in messages %}',
  "{{ '<|im_start|>' + message['role'] + '\\n' }}",
  "{% if message['content'] is string %}{{ message['content'] }}",
  "{% else %}{% for part in message['content'] %}",
  "{% if part['type'] == 'image' %}{{ '<image>\\n' }}{% else %}{{ part['text'] }}{% endif %}",
  '{% endfor %}{% endif %}',
  "{{ '<|im_end|>\\n' }}",
  '{% endfor %}',
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
].join('');
