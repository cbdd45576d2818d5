/** What `patina quickstart` says at its end: answers beside their pictures, how many are right, and what to type next. */
import { relative } from 'node:path';

import { formatDuration } from '../base/format.js';
import type { ScoredAnswer } from '../recipes/quickstart/score.js';
import { columns } from './train-view/event-lines.js';

export interface QuickstartResult {
  /** Answers about pictures of combinations that training showed. */
  readonly heldOut: readonly ScoredAnswer[];
  /** Answers about combinations of shape and colour that it never showed. */
  readonly unseen: readonly ScoredAnswer[];
  /** Folders of the model and of the data. */
  readonly model: string;
  readonly data: string;
  readonly seconds: number;
}

interface Count {
  readonly right: number;
  readonly asked: number;
  /** Share of the answers that are right to the letter. */
  readonly accuracy: number;
}

export function countRight(answers: readonly ScoredAnswer[]): Count {
  const right = answers.filter((answer) => answer.right).length;
  return { right, asked: answers.length, accuracy: right / answers.length };
}

/** @param patina how the command is typed */
export function quickstartReport(result: QuickstartResult, patina: string): string {
  const [model, data] = [result.model, result.data].map((path) => relative('.', path)) as [
    string,
    string,
  ];
  const { image, question } = result.heldOut[0]!;
  return [
    ...scored('pictures never shown', result.heldOut, 6),
    ...scored('shapes in colours never shown together', result.unseen, 4),
    `The model is in ${model}; all of it took ${formatDuration(result.seconds)}. What to type next:`,
    `  ${patina} chat ${model} --image ${data}/${image} "${question}"`,
    `  ${patina} show --model ${model} --data ${data}/questions.json --index 0`,
    `  ${patina} runs show`,
    `  ${patina} train quickstart --data YOUR.json`,
    '',
  ].join('\n');
}

/** How many are right, and some of the answers. */
function scored(what: string, answers: readonly ScoredAnswer[], most: number): string[] {
  const { right, asked, accuracy } = countRight(answers);
  const every = Math.ceil(asked / most);
  const shown = answers.filter((_, i) => i % every === 0);
  return [
    `${what}: ${right} of ${asked} answers are right (${(100 * accuracy).toFixed(1)} %)`,
    ...columns(
      shown.map(({ image, question, answer, wanted, right }) => [
        `  ${image}`,
        question,
        right ? answer : `${answer} (wrong: it is ${wanted})`,
      ]),
    ),
    '',
  ];
}
