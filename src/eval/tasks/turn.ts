/** MMBench (Liu et al. 2023) asks a question once for each of its choices, which change places; the turns count together. */
import { shortText } from '../../base/short-text.js';
import { dataError } from '../data/rows.js';
import type { Item } from '../item.js';

/** Turns of one question have its index plus whole millions. */
const TURN = 1_000_000;

/** @throws DataError `E_EVAL_DATA` for an index that tells of no question */
export function asTurn(item: Item): Item {
  const index = Number(item.id);
  if (Number.isSafeInteger(index) && index >= 0) return { ...item, group: String(index % TURN) };
  const id = shortText(String(item.id), 40);
  throw dataError(`${item.where}: its index ${id} is no whole number, so its turns are not known.`);
}
