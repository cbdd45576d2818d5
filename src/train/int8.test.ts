/** Runs whose moments are in 8 bits: told, stopped and resumed, in the backward, in another type. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RecipeInput } from '../config/index.js';
import type { TrainEvent } from './events.js';
import { all, endOf, lossesOf, startOf } from './testing-events.js';
import { ColourFolder } from './testing-files.js';
import { resumeRun, train, type TrainOptions } from './train.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());

const run = (more: Partial<RecipeInput> = {}, options?: TrainOptions): Promise<TrainEvent[]> =>
  all(train(folder.recipe({ precision: { states: 'int8' }, ...more }), options));

test.each([false, true])(
  'go on to the bit, and in another type where it is asked for; in the backward: %s',
  async (updateInBackward) => {
    const clipNorm = updateInBackward ? null : 1;
    const more = { optimizer: { learningRate: 3e-3, updateInBackward, clipNorm } };
    const whole = await run(more);
    // The head alone has 4,096 elements or more, beside the embeddings.
    expect(startOf(whole).choices).toMatchObject([{ saves: 8 * 6400 - 2 * 6400 - 8 * 25 }]);
    const first = await run(more, { maxUpdates: 4 });
    const { run: path } = endOf(first);
    const options = { maxUpdates: 7 };
    const rest = await all(resumeRun(path!, options));
    expect([...lossesOf(first), ...lossesOf(rest)]).toEqual(lossesOf(whole).slice(0, 7));
    const single = await all(resumeRun(path!, { set: ['precision.states=fp32'] }));
    expect(startOf(single).statements).toContain(
      "Adam's moments were kept in 8 bits, and go on in fp32 (2 tensors)",
    );
    for (const [i, loss] of lossesOf(single).entries())
      expect(Math.abs(loss! - lossesOf(whole)[7 + i]!)).toBeLessThan(0.02);
  },
);
