/**
 * A chat format as one Jinja template, for tools that know nothing else: XTuner's formats written out, and a system text that every
 * conversation begins with that brings none.
 */
import type { ChatFormat } from './chat-format.js';
import { compileTemplate } from './jinja.js';
import { FORMATS, isXtunerFormat, type PromptFormat } from './xtuner-format.js';

export interface TemplateSourceOptions {
  /** @default none */
  system?: string | undefined;
}

/**
 * The Jinja template that writes what the format writes.
 *
 * @param source of a format that is a template
 * @returns undefined where a template has no place for the system text
 */
export function templateSource(
  { name, tokenizer }: Pick<ChatFormat, 'name' | 'tokenizer'>,
  source: string | null,
  { system }: TemplateSourceOptions = {},
): string | undefined {
  const template =
    source ?? (isXtunerFormat(name) ? writtenOut(FORMATS[name], tokenizer.imageToken) : undefined);
  if (template === undefined || system === undefined) return template;
  return [JSON.stringify(system), `[{'type': 'text', 'text': ${JSON.stringify(system)}}]`]
    .map((content) => withSystem(template, content))
    .find((each) => says(each, system, tokenizer.namedTokens));
}

function withSystem(template: string, content: string): string {
  const message = `{'role': 'system', 'content': ${content}}`;
  return [
    "{%- if messages[0]['role'] != 'system' -%}",
    `{%- set messages = [${message}] + messages -%}`,
    '{%- endif %}',
    template,
  ].join('');
}

/** Whether a conversation without a system text begins with this one. */
function says(template: string, system: string, named: Readonly<Record<string, unknown>>): boolean {
  const contents = ['a', [{ type: 'text', text: 'a' }]];
  return contents.some((content) => {
    try {
      const messages = [{ role: 'user', content }];
      const variables = { ...named, messages, add_generation_prompt: true };
      const rendered = compileTemplate(template, { name: 'with a system text' }).render(variables);
      return rendered.includes(system.trim());
    } catch {
      return false;
    }
  });
}

/** One of XTuner's formats. A single picture stands before its text, as XTuner moves it. */
function writtenOut(format: PromptFormat, imageToken: string): string {
  const { system, instruction, suffix, separator = '' } = format;
  const text = (value: string): string => `{{ ${quoted(value)} }}`;
  // What follows a question begins the answer: it is written with it, or for it.
  const [end, header] = suffix === undefined ? ['', instruction[1]] : split(instruction[1], suffix);
  const bos = '{{ bos_token }}';
  return [
    suffix === undefined ? '' : bos,
    '{% for message in messages %}',
    "{% set content = message['content'] %}",
    '{% set words = namespace(text="", images=0) %}',
    '{% if content is string %}{% set words.text = content %}',
    '{% else %}{% for part in content %}',
    "{% if part['type'] == 'image' %}{% set words.images = words.images + 1 %}",
    "{% else %}{% set words.text = words.text + part['text'] %}{% endif %}",
    '{% endfor %}{% endif %}',
    // A system text and the question after it belong to one turn.
    suffix === undefined ? turnStart(bos) : '',
    `{% if message['role'] == 'system' %}${text(system[0])}{{ words.text }}${text(system[1])}`,
    `{% elif message['role'] == 'user' %}${text(instruction[0])}`,
    `{% if words.images == 1 %}${text(imageToken)}`,
    "{% if words.text | trim %}{{ '\\n' + (words.text | trim) }}{% endif %}",
    '{% elif words.images == 0 %}{{ words.text }}',
    `{% else %}{% for part in content %}{% if part['type'] == 'image' %}${text(imageToken)}`,
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}",
    text(end),
    `{% else %}${text(header)}{{ words.text }}`,
    suffix === undefined ? '{{ eos_token }}' : text(suffix),
    separator === '' ? '' : text(separator),
    '{% endif %}{% endfor %}',
    `{% if add_generation_prompt %}${text(header)}{% endif %}`,
  ].join('');
}

function turnStart(bos: string): string {
  const after = "loop.index0 > 0 and messages[loop.index0 - 1]['role'] == 'system'";
  return `{% if message['role'] == 'system' or (message['role'] == 'user' and not (${after})) %}${bos}{% endif %}`;
}

/** What stands before the end of a turn, that included, and after it. */
function split(text: string, end: string): readonly [string, string] {
  const at = text.indexOf(end) + end.length;
  return [text.slice(0, at), text.slice(at)];
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`;
}
