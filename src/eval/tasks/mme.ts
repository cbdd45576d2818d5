/**
 * MME (Fu et al. 2023): two questions on each picture, of yes and of no. A kind of questions scores its share of right answers and its
 * share of pictures with both right, in per cent; the score is the sum over kinds, at most 2000 of perception and 800 of reasoning.
 */
import { dataError } from '../data/rows.js';
import type { Item } from '../item.js';
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

/** @throws DataError `E_EVAL_DATA` for an item without a kind, or of which it is not known whose picture it shows */
export function asPair(item: Item): Item {
  const { categories, scene, id, where } = item;
  if (categories.length === 0) throw dataError(`${where} has no category.`);
  // Of a picture without a name the id stands for it: two questions have one in lmms-eval's data, in others each its own.
  if (typeof id === 'number' && scene === String(id)) {
    throw dataError(
      `${where} does not name its picture: two questions on one have one image_path.`,
    );
  }
  return { ...item, group: `${categories[0]!}/${scene}` };
}

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
