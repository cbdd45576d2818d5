/** MMBench by lmms-eval without a judge (`mmbench_en_dev_static`): a letter that alone stands by itself, the text of one option, else the likeliest of ten forms. */
import type { Item } from '../item.js';
import { strip, stripEnd, words } from '../python-text.js';
import type { Harness } from '../task.js';
import { LETTER_ONLY } from './choice.js';

const LETTERS = ['A', 'B', 'C', 'D'];

/** What may stand before and after a letter, in the order in which they are tried. */
const AROUND = [
  ...['.', ',', ':', ')', ').'].map((after) => ['', after]),
  ...[')', ').'].map((after) => ['(', after]),
  ...['', ',', '.', ')', ').'].map((after) => [':', after]),
] as [before: string, after: string][];

function letterIn(text: string): string | undefined {
  if (text.includes('Failed to obtain answer via API')) return undefined;
  const said = new Set(words(text));
  const count = words(text).length;
  for (const [before, after] of [['', ''] as const, ...AROUND]) {
    const found = [...LETTERS, 'E'].filter((letter) => said.has(before + letter + after));
    // Alone in a sentence it may be the article.
    const isArticle = before + after === '' && said.has('A') && count > 3;
    if (found.length === 1 && !isArticle) return found[0];
  }
  return undefined;
}

/** The data of lmms-eval have `nan` in place of an option that a question lacks. */
function optionIn(text: string, options: ReadonlyMap<string, string>): string | undefined {
  const lower = text.toLowerCase();
  const found = LETTERS.filter((letter) =>
    lower.includes((options.get(letter) ?? 'nan').toLowerCase()),
  );
  return found.length === 1 ? found[0] : undefined;
}

const PHRASES = [
  ...['the answer is', 'answer is', 'the correct answer is', 'correct answer is'],
  ...['the best answer is', 'best answer is', 'the correct option is', 'correct option is'],
  ...['the best option is', 'best option is', 'the choice is', 'choice is'],
  ...['the correct choice is', 'correct choice is', 'i choose', 'i select', 'i pick'],
  ...[
    'my answer is',
    'my choice is',
    '옵션',
    '정답은',
    '답은',
    '답:',
    '答案是',
    '答案为',
    '选',
    '答えは',
  ],
];

/** The last letter in the form that says most; empty where there is none. */
function likeliest(answer: string): string {
  let inner = strip(answer);
  for (const mark of [',', '.', '!', '?', ';', ':', "'", '"']) inner = stripMark(inner, mark);
  const text = ` ${inner} `;
  const lower = text.toLowerCase();
  const characters = Array.from(strip(text));
  const isLetter = (character: string | undefined): boolean => /^\p{L}$/u.test(character ?? '');
  const found: { letter: string; at: number; worth: number }[] = [];
  const last = (letter: string, form: string, worth: number): void => {
    const at = text.lastIndexOf(form);
    if (at >= 0) found.push({ letter, at, worth });
  };
  for (const letter of LETTERS) {
    last(letter, `(${letter})`, 6);
    last(letter, `${letter}.`, 5);
    last(letter, `${letter}:`, 4);
    last(letter, `${letter})`, 3);
    last(letter, `${letter} `, 2);
    for (const phrase of PHRASES) {
      const begun = lower.indexOf(phrase);
      const at = begun < 0 ? -1 : text.indexOf(letter, begun + phrase.length);
      if (at >= 0) found.push({ letter, at, worth: 7 });
    }
    if (characters[0] === letter && !isLetter(characters[1])) {
      found.push({ letter, at: 0, worth: 10 });
    }
    if (characters.at(-1) === letter && !isLetter(characters.at(-2))) {
      found.push({ letter, at: text.length - 1, worth: 9 });
    }
  }
  if (found.length === 0) for (const letter of LETTERS) last(letter, letter, 0);
  let best = found[0];
  for (const each of found) {
    const more = each.worth - best!.worth || each.at - best!.at;
    if (more > 0) best = each;
  }
  return best?.letter ?? '';
}

function stripMark(text: string, mark: string): string {
  let from = 0;
  while (text[from] === mark) from++;
  return stripEnd(text.slice(from), mark);
}

function prompt({ hint, question, options }: Item): string {
  const lines = [...options].map(([letter, option]) => `\n${letter}. ${option}`).join('');
  const before = hint === undefined ? '' : `${hint} `;
  return `${before}${question} There are several options:${lines}\n\n${LETTER_ONLY}`;
}

export const MMBENCH_LMMS_EVAL: Harness = {
  prompt,
  maxNewTokens: 1024,
  grade(text, { options, answers: [answer] }) {
    const said = strip(text);
    const extracted = letterIn(said) ?? optionIn(said, options) ?? likeliest(said);
    return { extracted, score: Number(extracted === answer) };
  },
};
