/** RefCOCO (Yu et al. 2016): the box of what a phrase names, right where it overlaps the true one by more than half. */
import { dataError } from '../data/rows.js';
import type { Box, Item } from '../item.js';
import { digitsValue } from '../python-text.js';
import { type Harness, mean, members } from '../task.js';

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

/** Shares of the picture. */
function shares({ corner: [x, y, w, h], width, height }: Box): Corners {
  return [x / width, y / height, (x + w) / width, (y + h) / height];
}

/** Intersection over union of areas. */
function areaOverlap(a: Corners, b: Corners): number {
  const area = ([left, top, right, bottom]: Corners): number => (right - left) * (bottom - top);
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const both = Math.max(0, width) * Math.max(0, height);
  return both / (area(a) + area(b) - both);
}

const BLANKS = '[\\s\\x1c-\\x1f\\x85]*';
const NUMBER = '(-?\\p{Nd}+(?:\\.\\p{Nd}+)?)';
const LIST = new RegExp(
  `\\[${BLANKS}${Array.from({ length: 4 }, () => NUMBER).join(`,${BLANKS}`)}${BLANKS}\\]`,
  'u',
);

/** The first list of four numbers, else four zeros. */
function listed(text: string): Corners {
  const [, ...numbers] = LIST.exec(text) ?? [];
  const plain = (each: string): number =>
    Number(each.replaceAll(/\p{Nd}/gu, (digit) => String(digitsValue(digit))));
  return numbers.length === 4 ? (numbers.map(plain) as never) : [0, 0, 0, 0];
}

function hasCentre(box: Corners, [left, top, right, bottom]: Corners): boolean {
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  return box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3];
}

const THRESHOLDS = [0.1, 0.3, 0.5, 0.7, 0.9];

export const REFCOCO: Readonly<Record<'xtuner' | 'lmms-eval', Harness>> = {
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
  'lmms-eval': {
    prompt: ({ question }) =>
      'Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). ' +
      'All values are floating point numbers bounded between 0 and 1. ' +
      `Please provide the bounding box coordinate of the region this sentence describes: ${question}`,
    maxNewTokens: 1024,
    grade(text, { box }) {
      const said = listed(text);
      const score = Number(areaOverlap(shares(box!), said) >= 0.5);
      return { extracted: `[${said.join(', ')}]`, score };
    },
    metrics(groups) {
      const boxes = members(groups).map(({ text, item: { box } }) => {
        const [right, said] = [shares(box!), listed(text)];
        return { iou: areaOverlap(right, said), hasCentre: hasCentre(right, said) };
      });
      return {
        iou: mean(boxes.map(({ iou }) => iou)),
        ...Object.fromEntries(
          THRESHOLDS.map((least) => [
            `accuracy${least}`,
            mean(boxes.map(({ iou }) => Number(iou >= least))),
          ]),
        ),
        centre: mean(boxes.map((each) => Number(each.hasCentre))),
      };
    },
  },
};
