/**
 * Llama 3's chat layout with images, as a Jinja template for folders that Patina writes: headers, stripped texts, a
 * line end after each image, `<|eot_id|>` after each message. Contents are strings or lists of parts.
 */
export const LLAMA3_TEMPLATE = [
  '{{ bos_token }}',
  '{% for message in messages %}',
  "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}",
  "{% if message['content'] is string %}{{ message['content'] | trim }}",
  "{% else %}{% for part in message['content'] %}",
  "{% if part['type'] == 'image' %}{{ '<image>\\n' }}{% else %}{{ part['text'] | trim }}{% endif %}",
  '{% endfor %}{% endif %}',
  "{{ '<|eot_id|>' }}",
  '{% endfor %}',
  "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
].join('');
