import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { cases } from '../base/testing.js';
import { arrange } from './arrange.js';
import {
  featureRows,
  mostOf,
  type TileFacts,
  tiledTokens,
  tilesAmong,
  viewCount,
  wholeTokens,
} from './tiles.js';

interface Counted {
  readonly side: number;
  readonly patch: number;
  readonly max: number;
  readonly pinpoints: readonly [height: number, width: number][];
  readonly sizes: readonly [height: number, width: number, tokens: number][];
}

/** How many image tokens LLaVA-OneVision's processor counts. */
const COUNTED = JSON.parse(
  readFileSync(join(packageRoot(), 'test', 'fixtures', 'llava', 'onevision-tokens.json'), 'utf8'),
) as Counted[];

function factsOf({ side, patch, max, pinpoints }: Counted): TileFacts {
  return {
    pinpoints: pinpoints.map(([height, width]) => ({ height, width })),
    size: side,
    patches: Math.floor(side / patch),
    max,
  };
}

describe.each(COUNTED.map((counted) => ({ ...counted, facts: factsOf(counted) })))(
  'LLaVA-OneVision with tiles of $side pixels, anyres_max_$max',
  ({ facts, sizes }) => {
    const most = mostOf(facts);

    test('a picture of any size takes the tokens that the reference counts', () => {
      const counted = sizes.map(([height, width]) => [
        height,
        width,
        tiledTokens({ height, width }, facts),
      ]);
      expect(counted).toEqual(sizes);
      const rows = sizes.map(([height, width]) => featureRows({ height, width }, facts));
      const limited = rows.filter(({ from, to }) => from.rows !== to.rows);
      expect(limited.length).toBeGreaterThan(20);
      expect(sizes.length - limited.length).toBeGreaterThan(100);
      expect(Math.max(...sizes.map(([, , tokens]) => tokens))).toBeLessThanOrEqual(most.tokens);
    });

    test('without the limit it is a LLaVA-NeXT, which keeps all features', () => {
      const unlimited = { ...facts, max: undefined };
      const picture = { height: 6 * facts.size, width: 6 * facts.size };
      const { from, to } = featureRows(picture, unlimited);
      expect(to).toEqual(from);
      expect(tilesAmong(unlimited, 2)).toBe(unlimited);
    });

    test('tokens are picked from the features of their own picture, each once', () => {
      const side = fc.integer({ min: 1, max: 8 * facts.size });
      const picture = fc.record({ height: side, width: side });
      fc.assert(
        fc.property(fc.array(fc.array(picture, { minLength: 1, maxLength: 3 })), (samples) => {
          const pictures = samples.flatMap((own) =>
            own.map((each) => ({ picture: each, facts: tilesAmong(facts, own.length) })),
          );
          const { tokens, interpolations } = arrange(samples, facts);
          const whole = facts.patches ** 2;
          const sum = (of: readonly number[]): number => of.reduce((a, b) => a + b, 0);
          const views = sum(pictures.map((each) => viewCount(each.picture, each.facts)));
          const newline = views * whole + sum(interpolations.map(({ to }) => to.rows * to.columns));
          let [at, first] = [0, 0];
          for (const { picture: own, facts: cut } of pictures) {
            const count = tiledTokens(own, cut);
            expect(count).toBeLessThanOrEqual(most.tokens);
            const mine = tokens.slice(at, at + count);
            expect(mine.slice(0, whole)).toEqual(
              Array.from({ length: whole }, (_, i) => first + i),
            );
            expect(count === whole || mine.at(-1) === newline).toBe(true);
            first += viewCount(own, cut) * whole;
            at += count;
          }
          expect(at).toBe(tokens.length);
          const features = tokens.filter((token) => token !== newline);
          expect(new Set(features).size).toBe(features.length);
          for (const { features: from, from: grid } of interpolations) {
            expect(new Set(from).size).toBe(grid.rows * grid.columns);
            expect(Math.max(...from)).toBeLessThan(views * whole);
          }
        }),
        { numRuns: cases(20) },
      );
    });
  },
);

test('of several pictures in a sample each is a view and the vector behind it', () => {
  const limited = factsOf(COUNTED[0]!);
  const facts = tilesAmong(limited, 2);
  const picture = { height: 3000, width: 4000 };
  expect(viewCount(picture, facts)).toBe(1);
  expect(tiledTokens(picture, facts)).toBe(729 + 1);
  expect(wholeTokens(facts)).toBe(730);
  const { tokens } = arrange([[picture, picture]], limited);
  expect(tokens).toEqual([
    ...Array.from({ length: 729 }, (_, i) => i),
    2 * 729,
    ...Array.from({ length: 729 }, (_, i) => 729 + i),
    2 * 729,
  ]);
});
