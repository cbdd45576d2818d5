/**
 * Which part of a rendered conversation is learned, found by rendering it turn by turn.
 *
 * Let R(n) be the rendering of the first n messages and P(n) the same with the assistant's header asked
 * for. If message n (from 0) is an answer, the model is given P(n) and has to write R(n + 1) without P(n):
 * that stretch is supervised. It takes that P(n) begins R(n + 1), and R(n + 1) begins the whole; both are
 * checked for every answer. Some templates need more:
 *
 * - one that always ends with the assistant's header: R(n + 1) counts without that header;
 * - one that rewrites earlier turns, or has no header to ask for: its `{% generation %}` tags decide, if it has any.
 */
import { DataError } from '../base/errors.js';
import { GENERATION_END, GENERATION_START } from './jinja.js';

/** Renders the first `count` messages. */
export type RenderTurns = (
  count: number,
  options?: { header?: boolean; generation?: boolean },
) => string;

export type Supervision =
  /** `header` ends every rendering ('' for most templates). */
  { readonly by: 'turns'; readonly header: string } | { readonly by: 'tags' };

/** A rendering with its supervised ranges `[from, to)`, in order. */
export interface Supervised {
  readonly text: string;
  readonly ranges: readonly (readonly [number, number])[];
}

/** The four messages of a probe, question, answer, question, answer, as the template gets them. */
export interface Probe {
  readonly render: RenderTurns;
  readonly contents: readonly [string, string, string, string];
  /** A text as added tokens and single characters. */
  readonly atoms: (text: string) => string[];
  readonly hasGenerationTags: boolean;
  readonly name: string;
}

/** Finds how a template is supervised; throws E_TEMPLATE_SUPERVISION, naming template and turn. */
export function findSupervision(probe: Probe): Supervision {
  const { whole, answers } = renderProbe(probe);
  const fits = (header: string): number | undefined =>
    firstMisfit({ render: probe.render, whole, answers, header });
  const asksForHeader = probe.render(1, { header: true }) !== probe.render(1);
  const misfit = fits('');
  if (misfit === undefined) {
    // Without a header to ask for, a turn begins with the header, which the tags know to leave out.
    return !asksForHeader && probe.hasGenerationTags ? { by: 'tags' } : { by: 'turns', header: '' };
  }
  for (const header of [...headersOfNothing(probe), headerBySymmetry(probe, whole)]) {
    if (header !== '' && fits(header) === undefined) return { by: 'turns', header };
  }
  if (probe.hasGenerationTags) return { by: 'tags' };
  // One that rewrites turns only once they are past still tells about its last: each conversation is checked.
  if (asksForHeader) return { by: 'turns', header: '' };
  throw unsupervised(probe.name, misfit);
}

/** Two turns, or one where the template refuses a second. */
function renderProbe({ render }: Probe): { whole: string; answers: number[] } {
  try {
    return { whole: render(4), answers: [1, 3] };
  } catch {
    return { whole: render(2), answers: [1] };
  }
}

/**
 * The whole conversation with the stretches that are learned.
 *
 * @param answers Positions of the answers to learn.
 *
 * Throws E_TEMPLATE_SUPERVISION where neither turns nor tags tell.
 */
export function superviseTurns({
  render,
  count,
  answers,
  supervision,
  hasGenerationTags,
  name,
}: {
  render: RenderTurns;
  count: number;
  answers: readonly number[];
  supervision: Supervision;
  hasGenerationTags: boolean;
  name: string;
}): Supervised {
  if (supervision.by === 'turns') {
    const { header } = supervision;
    const whole = render(count);
    const misfit = firstMisfit({ render, whole, answers, header });
    if (misfit === undefined) {
      const ranges = answers.map((n) => {
        return [render(n, { header: true }).length, render(n + 1).length - header.length] as const;
      });
      return { text: whole, ranges };
    }
    if (!hasGenerationTags) throw unsupervised(name, misfit);
  }
  return byTags(render(count, { generation: true }), name);
}

/** The first answer (its message's position) for which the prefix property does not hold. */
function firstMisfit({
  render,
  whole,
  answers,
  header,
}: {
  render: RenderTurns;
  whole: string;
  answers: readonly number[];
  header: string;
}): number | undefined {
  return answers.find((n) => {
    const turn = render(n + 1);
    const closed = turn.slice(0, turn.length - header.length);
    return !(
      turn.endsWith(header) &&
      closed.startsWith(render(n, { header: true })) &&
      whole.startsWith(closed)
    );
  });
}

/** What a template writes for no messages at all may be what it always ends with, a first token before it. */
function headersOfNothing({ render, atoms }: Probe): string[] {
  try {
    const nothing = atoms(render(0));
    return [nothing.join(''), nothing.slice(1).join('')];
  } catch {
    return [];
  }
}

/**
 * The header out of the texts around four contents: between an answer and a question stands the answer's end and
 * the user's header, at the very end the answer's end and what is looked for.
 */
function headerBySymmetry({ contents, atoms }: Probe, whole: string): string {
  const places = contents.map((content) => whole.indexOf(content));
  const [first, second, third, fourth] = places as [number, number, number, number];
  if (places.includes(-1) || !(first < second && second < third && third < fourth)) return '';
  const before = atoms(whole.slice(0, first));
  const between = atoms(whole.slice(second + contents[1].length, third));
  const last = whole.slice(fourth + contents[3].length);
  let userHeader = 0;
  while (
    userHeader < between.length &&
    between.at(-1 - userHeader) === before.at(-1 - userHeader)
  ) {
    userHeader++;
  }
  const end = between.slice(0, between.length - userHeader).join('');
  return end !== '' && last.startsWith(end) ? last.slice(end.length) : '';
}

function byTags(marked: string, name: string): Supervised {
  const ranges: [number, number][] = [];
  let text = '';
  let open: number | undefined;
  for (const [piece] of marked.matchAll(/[\ufdd2\ufdd3]|[^\ufdd2\ufdd3]+/gu)) {
    if (piece === GENERATION_START && open === undefined) {
      open = text.length;
    } else if (piece === GENERATION_END && open !== undefined) {
      ranges.push([open, text.length]);
      open = undefined;
    } else if (piece === GENERATION_START || piece === GENERATION_END) {
      throw new DataError(`Chat template ${name}: its {% generation %} tags do not pair up.`, {
        code: 'E_TEMPLATE_SUPERVISION',
        hint: 'Enclose each answer in one {% generation %} and one {% endgeneration %}.',
      });
    } else {
      text += piece;
    }
  }
  return { text, ranges };
}

function unsupervised(name: string, message: number): DataError {
  return new DataError(
    `Chat template ${name}: message ${message + 1}, an answer, is not what follows its prompt: the template ` +
      'writes a conversation differently once it goes on, so what is to be learned cannot be told.',
    {
      code: 'E_TEMPLATE_SUPERVISION',
      hint: 'Enclose what the assistant writes in {% generation %} and {% endgeneration %}, or choose another template.',
    },
  );
}
