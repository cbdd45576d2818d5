/** Questions of yes and no: what the harnesses read an answer as, and the score of POPE (Li et al. 2023). */
import { shortText } from '../../base/short-text.js';
import { dataError } from '../data/rows.js';
import { type Item, onlyAnswer } from '../item.js';
import { length, strip, words } from '../python-text.js';
import { type Graded, type Harness, mean, members, type Total } from '../task.js';
import { plainPunctuation } from './vqa-text.js';

export const ONE_WORD = '\nAnswer the question using a single word or phrase.';

/** LLaVA: "No", "not" or "no" as a word of the first sentence is no, anything else yes. */
export function llavaYesNo(text: string): string {
  const said = text.split('.')[0]!.replaceAll(',', '').split(' ');
  return ['No', 'not', 'no'].some((word) => said.includes(word)) ? 'no' : 'yes';
}

/** VLMEvalKit: one of both as a word, and not the other. */
function vlmevalkitYesNo(text: string): string {
  const said = words(plainPunctuation(text.toLowerCase()));
  const [yes, no] = [said.includes('yes'), said.includes('no')];
  if (yes === no) return 'Unknown';
  return yes ? 'Yes' : 'No';
}

/** lmms-eval, of MME: the first four characters have one of both in them, yes before no. */
export function firstFourYesNo(text: string): string {
  const said = strip(text.toLowerCase()).replaceAll('.', '');
  if (said === 'y') return 'yes';
  if (said === 'n') return 'no';
  if (length(said) === 1) return 'other';
  const start = Array.from(said).slice(0, 4).join('');
  return ['yes', 'no'].find((word) => start.includes(word)) ?? 'other';
}

/** Files say Yes, yes or Yes.; the rules here take yes or no. @throws DataError `E_EVAL_DATA` */
export function asYesNo(item: Item): Item {
  const answer = onlyAnswer(item);
  if (answer === undefined) return item;
  const said = strip(answer.toLowerCase()).replaceAll('.', '');
  if (said === 'yes' || said === 'no') return { ...item, answers: [said] };
  throw dataError(`${item.where}: the answer is ${shortText(answer, 40)}, not yes or no.`);
}

/** What VLMEvalKit asks and reads of such questions, in any benchmark. */
export const VLMEVALKIT_YES_NO: Omit<Harness, 'total'> = {
  prompt: ({ question }) => question,
  maxNewTokens: 2048,
  grade(text, { answers: [answer] }) {
    const extracted = vlmevalkitYesNo(text);
    return { extracted, score: Number(extracted.toLowerCase() === answer) };
  },
};

export const POPE: Readonly<Record<'llava' | 'vlmevalkit' | 'lmms-eval', Harness>> = {
  llava: {
    prompt: ({ question }) => (question.endsWith(ONE_WORD) ? question : question + ONE_WORD),
    maxNewTokens: 128,
    grade(text, { answers: [answer] }) {
      const extracted = llavaYesNo(text);
      return { extracted, score: Number(extracted === answer) };
    },
    // Of several kinds the mean of F1, as LLaVA's papers give it.
    total(groups) {
      const graded = members(groups);
      const all = counts(graded, YES_WORDS);
      const kinds = byKind(graded);
      if (kinds.length < 2) return all;
      return { ...all, score: mean(kinds.map((own) => counts(own, YES_WORDS).score)) };
    },
  },
  vlmevalkit: {
    ...VLMEVALKIT_YES_NO,
    // A question of several kinds counts once for each of them.
    total(groups, kind) {
      const graded = members(groups);
      const again = graded.filter(({ item }) => kind === undefined && item.categories.length > 1);
      const all = [
        ...graded,
        ...again.flatMap((each) => each.item.categories.slice(1).map(() => each)),
      ];
      return counts(all, { ...YES_WORDS, yes: 'Yes' });
    },
  },
  'lmms-eval': {
    prompt: ({ question }) => strip(question) + ONE_WORD,
    maxNewTokens: 128,
    grade(text, { answers: [answer] }) {
      const extracted = strip(text.toLowerCase());
      return { extracted, score: Number(extracted === answer) };
    },
    total(groups) {
      const graded = members(groups);
      // What is neither yes nor no has not missed a yes.
      const { score, metrics } = counts(graded, { ...YES_WORDS, no: 'no' });
      // Its ratio is of the right answers, not of the model's.
      const yesRatio = mean(graded.map(({ item }) => Number(item.answers[0] === 'yes')));
      return { score, metrics: { ...metrics, yesRatio } };
    },
  },
};

interface YesWords {
  /** What a yes is extracted as. */
  readonly yes: string;
  /** What a no is extracted as. @default all else */
  readonly no?: string;
}

const YES_WORDS: YesWords = { yes: 'yes' };

/** F1 of the yes as the score; a share of nothing is 0. */
function counts(graded: readonly Graded[], { yes, no }: YesWords): Total {
  const share = (part: number, of: number): number => (of === 0 ? 0 : part / of);
  let [said, hits, missed, right] = [0, 0, 0, 0];
  for (const { extracted, score, item } of graded) {
    const real = item.answers[0] === 'yes';
    right += score;
    if (extracted === yes) {
      said++;
      if (real) hits++;
    } else if (real && (no === undefined || extracted === no)) missed++;
  }
  const precision = share(hits, said);
  const recall = share(hits, hits + missed);
  const f1 = share(2 * precision * recall, precision + recall);
  const [accuracy, yesRatio] = [right / graded.length, said / graded.length];
  return { score: f1, metrics: { accuracy, precision, recall, f1, yesRatio } };
}

function byKind(graded: readonly Graded[]): Graded[][] {
  const kinds = new Map<string, Graded[]>();
  for (const each of graded) {
    for (const kind of each.item.categories) {
      const own = kinds.get(kind);
      if (own === undefined) kinds.set(kind, [each]);
      else own.push(each);
    }
  }
  return [...kinds.values()];
}
