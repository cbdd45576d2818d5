/**
 * A chat template in the language of Ollama's Modelfiles (Go's text/template), found by rendering the Jinja one: what stands before and
 * after each text. Ollama writes the template once for every turn, with the system text in the first.
 */
import { compileTemplate } from './jinja.js';

export interface OllamaTemplate {
  readonly template: string;
  /** What a conversation begins with that brings no system text of its own. */
  readonly system: string | undefined;
}

const [SYSTEM, FIRST, ANSWER, SECOND] = ['\ufdd4s', '\ufdd4f', '\ufdd4a', '\ufdd4n'] as const;

/** @returns undefined for a template that does not fit into this form */
export function ollamaTemplate(
  source: string,
  namedTokens: Readonly<Record<string, string | undefined>>,
): OllamaTemplate | undefined {
  const render = (messages: readonly object[]): string | undefined => {
    try {
      const variables = { ...namedTokens, messages, add_generation_prompt: true };
      const text = compileTemplate(source, { name: 'for Ollama' }).render(variables);
      const bos = namedTokens['bos_token'];
      // Ollama lets the tokenizer put it there.
      return bos !== undefined && text.startsWith(bos) ? text.slice(bos.length) : text;
    } catch {
      return undefined;
    }
  };
  const turns = [
    { role: 'user', content: FIRST },
    { role: 'assistant', content: ANSWER },
    { role: 'user', content: SECOND },
  ];
  const plain = split(render(turns), [FIRST, ANSWER, SECOND]);
  if (plain === undefined) return undefined;
  const [begin, header, between, last] = plain as [string, string, string, string];
  if (header !== last) return undefined;
  // Between turns the end of an answer and the begin of a question, which is all or the end of what the first begins with.
  const turn = commonEnd(begin, between);
  const end = between.slice(0, between.length - turn.length);
  const lead = begin.slice(0, begin.length - turn.length);
  const asked = `${turn}{{ .Prompt }}${header}{{ .Response }}${end}`;
  const told = split(render([{ role: 'system', content: SYSTEM }, ...turns]), [SYSTEM, FIRST]);
  const literal = [turn, header, end, lead, ...(told?.slice(0, 2) ?? [])].join('');
  if (turn === '' || /\{\{|\}\}|"""/.test(literal)) return undefined;
  if (told === undefined) {
    return lead === '' ? { template: asked, system: undefined } : undefined;
  }
  const [before, after] = told as [string, string, string];
  if (!after.endsWith(turn)) return undefined;
  const closing = after.slice(0, after.length - turn.length);
  const isWithin = lead.startsWith(before) && lead.endsWith(closing);
  if (lead !== '' && !isWithin) return undefined;
  return {
    template: `{{ if .System }}${before}{{ .System }}${closing}{{ end }}${asked}`,
    system: lead === '' ? undefined : lead.slice(before.length, lead.length - closing.length),
  };
}

/** What stands before, between and behind the marks, each of which occurs once and in this order. */
function split(text: string | undefined, marks: readonly string[]): string[] | undefined {
  if (text === undefined) return undefined;
  const parts: string[] = [];
  let rest = text;
  for (const mark of marks) {
    const [part, more, ...again] = rest.split(mark);
    if (more === undefined || again.length > 0) return undefined;
    parts.push(part!);
    rest = more;
  }
  return [...parts, rest];
}

function commonEnd(a: string, b: string): string {
  let length = 0;
  while (length < Math.min(a.length, b.length) && a.at(-1 - length) === b.at(-1 - length)) length++;
  return a.slice(a.length - length);
}
