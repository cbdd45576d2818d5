/** Multiple choice: what the harnesses read an answer as. */
import { shortText } from '../../base/short-text.js';
import { dataError } from '../data/rows.js';
import { type Item, onlyAnswer } from '../item.js';
import { length, strip, words } from '../python-text.js';
import type { Grade, Harness } from '../task.js';

export const LETTER_ONLY = "Answer with the option's letter from the given choices directly.";
const LETTER_ONLY_CHINESE = '请直接回答选项字母。';

/** LLaVA, of ScienceQA: the letter alone, first with a full stop and a blank, or in the one "The answer is X." */
export function llavaLetter(text: string): string {
  if (/^[A-E]$/.test(text)) return text;
  if (/^[A-E]\. /.test(text)) return text[0]!;
  // Some character must follow the letter, but not the end of a line.
  const found = [...text.matchAll(/The answer is ([A-Z])[^\n]/gu)];
  return found.length === 1 ? found[0]![1]! : 'FAILED';
}

/** XTuner, of MMBench: the first run of letters from A to D. */
export function xtunerLetters(text: string): string {
  return /[A-D]+/.exec(text)?.[0] ?? '';
}

const REFUSALS = [
  "Sorry, I can't help with images of people yet.",
  "I can't process this file.",
  "I'm sorry, but without the image provided",
  'Cannot determine the answer',
];

/** VLMEvalKit without a judge: a letter that alone stands near the end, a phrase that names one, or the text of one option. `Z` for none. */
export function vlmevalkitLetter(text: string, options: ReadonlyMap<string, string>): string {
  return letterIn(text, options) ?? optionIn(text, options) ?? 'Z';
}

function letterIn(text: string, options: ReadonlyMap<string, string>): string | undefined {
  if (text.includes('Failed to obtain answer via API')) return undefined;
  if (REFUSALS.some((refusal) => text.includes(refusal))) return 'Z';
  const said = words(text.replaceAll(/[.()[\],:;!*#{}]/g, ' '));
  const letters = [...options.keys()].filter((letter) => said.includes(letter));
  if (letters.length === 1 && said.indexOf(letters[0]!) > said.length - 5) return letters[0];
  if (letters.length === 0 && said.includes('Z')) return 'Z';
  const named = /(?:correct\s+)?answer\s+is\s+\**([ABCD])\**/iu.exec(text)?.[1]?.toUpperCase();
  return named !== undefined && options.has(named) ? named : undefined;
}

function optionIn(text: string, options: ReadonlyMap<string, string>): string | undefined {
  const lower = text.toLowerCase();
  const total = [...options.values()].reduce((sum, option) => sum + length(option), 0);
  if (length(lower) > 2 * total) return undefined;
  const found = [...options].filter(([, option]) => lower.includes(option.toLowerCase()));
  return found.length === 1 ? found[0]![0] : undefined;
}

/** Files name the right choice by its letter; what names none would be wrong whatever a model says. @throws DataError `E_EVAL_DATA` */
export function asChoice(item: Item): Item {
  const { options, where } = item;
  if (options.size === 0) throw dataError(`${where} has no choices, nor A, B, C.`);
  const answer = onlyAnswer(item);
  if (answer === undefined) return item;
  const letter = strip(answer).toUpperCase();
  if (options.has(letter)) return { ...item, answers: [letter] };
  const letters = [...options.keys()].join(', ');
  throw dataError(`${where}: the answer is ${shortText(answer, 40)}, not one of ${letters}.`);
}

function lines({ options }: Item): string {
  return [...options].map(([letter, option]) => `${letter}. ${option}\n`).join('');
}

function inContext(item: Item): string {
  const context = (item.hint ?? '') === '' ? '' : `Context: ${item.hint!}\n`;
  return `${context}${item.question}\n${lines(item)}${LETTER_ONLY}`;
}

function equals(extracted: string, { answers: [answer] }: Item): Grade {
  return { extracted, score: Number(extracted === answer) };
}

export const CHOICE: Readonly<Record<'llava' | 'vlmevalkit' | 'lmms-eval' | 'xtuner', Harness>> = {
  llava: {
    prompt: inContext,
    maxNewTokens: 1024,
    grade(text, item) {
      const letter = llavaLetter(text);
      return equals(item.options.has(letter) ? letter : 'FAILED', item);
    },
  },
  vlmevalkit: {
    prompt(item) {
      const hint = item.hint === undefined ? '' : `Hint: ${item.hint}\n`;
      const options =
        item.options.size === 0
          ? ''
          : `Options:\n${lines(item)}Please select the correct answer from the options above. \n`;
      return `${hint}Question: ${item.question}\n${options}`;
    },
    maxNewTokens: 2048,
    grade: (text, item) => equals(vlmevalkitLetter(text, item.options), item),
  },
  'lmms-eval': {
    prompt: inContext,
    maxNewTokens: 16,
    grade(text, item) {
      const said = strip(text);
      const letter = /^(\p{Uppercase})\./u.exec(said)?.[1] ?? said;
      const right = letter.toLowerCase() === item.answers[0]?.toLowerCase();
      return { extracted: letter, score: Number(right) };
    },
  },
  xtuner: {
    prompt(item) {
      const hint = item.hint === undefined ? '' : `${item.hint}\n`;
      const asked = `${hint}${item.question}\n${lines(item)}`;
      return asked + (/[\u4e00-\u9fff]/.test(asked) ? LETTER_ONLY_CHINESE : LETTER_ONLY);
    },
    maxNewTokens: 100,
    grade: (text, item) => equals(xtunerLetters(text), item),
  },
};
