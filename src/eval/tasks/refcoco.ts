/** RefCOCO (Yu et al. 2016): the box of what a phrase names, right where it overlaps the true one by more than half. */
import { dataError } from '../data/rows.js';
import type { Box, Item } from '../item.js';
import { digitsValue } from '../python-text.js';
import type { Harness } from '../task.js';

type Corners = readonly [left: number, top: number, right: number, bottom: number];

/** Corners in per cent of the picture. */
function percent({ corner: [x, y, w, h], width, height }: Box): Corners {
  const at = (value: number): number => Math.trunc(value * 100);
  return [at(x / width), at(y / height), at((x + w) / width), at((y + h) / height)];
}

/** Intersection over union of boxes whose last row and column belong to them. */
function overlap(a: Corners, b: Corners): number {
  const area = ([left, top, right, bottom]: Corners): number =>
    (right - left + 1) * (bottom - top + 1);
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]) + 1;
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]) + 1;
  const both = Math.max(0, width) * Math.max(0, height);
  return both / (area(a) + area(b) - both);
}

/** @throws DataError `E_EVAL_DATA` for an item without a box */
export function withBox(item: Item): Item {
  if (item.box !== undefined) return item;
  throw dataError(`${item.where} has no bbox.`);
}

export const REFCOCO: Readonly<Record<'xtuner', Harness>> = {
  xtuner: {
    prompt: ({ question }) => `[refer] give me the location of ${question}`,
    maxNewTokens: 100,
    grade(text, { box }) {
      const numbers = (text.match(/\p{Nd}+/gu) ?? []).map(digitsValue);
      const extracted = `[${numbers.join(', ')}]`;
      if (numbers.length !== 4) return { extracted, score: 0 };
      return { extracted, score: Number(overlap(numbers as never, percent(box!)) > 0.5) };
    },
  },
};
