/**
 * MME (Fu et al. 2023): two questions on each picture, of yes and of no. A kind of questions scores its share of right answers and its
 * share of pictures with both right, in per cent; the score is the sum over kinds, at most 2000 of perception and 800 of reasoning.
 */
import { strip } from '../python-text.js';
import { type Group, groupScore, type Harness, mean, members, type Total } from '../task.js';
import { firstFourYesNo, ONE_WORD, VLMEVALKIT_YES_NO } from './yes-no.js';

const REASONING = new Set([
  'code_reasoning',
  'commonsense_reasoning',
  'numerical_calculation',
  'text_translation',
]);
const YES_OR_NO = ' Please answer yes or no.';

export const MME: Readonly<Record<'vlmevalkit' | 'lmms-eval', Harness>> = {
  vlmevalkit: { ...VLMEVALKIT_YES_NO, total },
  'lmms-eval': {
    prompt: ({ question }) => strip(question).replaceAll(YES_OR_NO, '') + ONE_WORD,
    maxNewTokens: 16,
    grade(text, { answers: [answer] }) {
      const extracted = firstFourYesNo(text);
      return { extracted, score: Number(extracted === answer) };
    },
    total,
  },
};

function total(groups: readonly Group[]): Total {
  const kinds = new Map<string, Group[]>();
  for (const group of groups) {
    const kind = group[0]!.item.categories[0]!;
    const pairs = kinds.get(kind);
    if (pairs === undefined) kinds.set(kind, [group]);
    else pairs.push(group);
  }
  let [perception, reasoning] = [0, 0];
  for (const [kind, pairs] of kinds) {
    const each = mean(members(pairs).map(({ score }) => score));
    const both = mean(pairs.map(groupScore));
    if (REASONING.has(kind)) reasoning += 100 * (each + both);
    else perception += 100 * (each + both);
  }
  return { score: perception + reasoning, metrics: { perception, reasoning } };
}
