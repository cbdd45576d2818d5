import { expect, test } from 'vitest';

import { LLAMA3_TEMPLATE } from './llama3-template.js';
import { ollamaTemplate } from './ollama-template.js';

test("Llama 3's template", () => {
  expect(ollamaTemplate(LLAMA3_TEMPLATE, { bos_token: '<|begin_of_text|>' })).toEqual({
    template: [
      '{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}',
      '<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>',
      '<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>',
    ].join(''),
    system: undefined,
  });
});

test('a system text that a template brings by itself becomes SYSTEM', () => {
  const vicuna = [
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}",
    "{% else %}{% set system = 'A chat.' %}{% set rest = messages %}{% endif %}",
    "{{ bos_token + system + ' ' }}{% for m in rest %}",
    "{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}",
    "{% else %}{{ 'ASSISTANT: ' + m['content'] + '</s>' }}{% endif %}{% endfor %}",
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}",
  ].join('');
  expect(ollamaTemplate(vicuna, { bos_token: '<s>' })).toEqual({
    template:
      '{{ if .System }}{{ .System }} {{ end }}USER: {{ .Prompt }} ASSISTANT: {{ .Response }}</s>',
    system: 'A chat.',
  });
});

test('a template that refuses system texts has none', () => {
  const source = [
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}",
    "{{ '[' + m['role'] + ']' + m['content'] + '\\n' }}{% endfor %}[assistant]",
  ].join('');
  expect(ollamaTemplate(source, {})).toEqual({
    template: '[user]{{ .Prompt }}\n[assistant]{{ .Response }}\n',
    system: undefined,
  });
});

test.each([
  ['writes a text twice', "{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}"],
  ['leaves answers out', "{% for m in messages %}{{ 'U' + m['content'][:1] }}{% endfor %}"],
  [
    "writes what is Go's own",
    "{% for m in messages %}{{ '{{' + m['role'] + m['content'] + '\\n' }}{% endfor %}",
  ],
  ['cannot be read', '{% for %}'],
])('one that %s does not fit', (_, source) => {
  expect(ollamaTemplate(source, {})).toBeUndefined();
});
