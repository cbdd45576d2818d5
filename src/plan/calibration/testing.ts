/** Runs and what they measured, for tests. */
import { checkRecipe, type Recipe, type RecipeInput } from '../../config/index.js';
import type { MeasuredRun, Versions } from './calibration.js';

export const VERSIONS: Versions = { libtorch: '2.11.0', patina: '0.1.0' };

/** Of full training on one A100 with 40 GB. */
export function measuredRun(more: Partial<MeasuredRun> = {}): MeasuredRun {
  return {
    ...{ at: '2026-11-29T12:00:00.000Z', card: 'NVIDIA A100-SXM4-40GB', ...VERSIONS },
    ...{ ranks: 1, kind: 'full, bf16', time: 1, context: 600 * 2 ** 20 },
    ...more,
  };
}

/** What these trained. */
export function fullRecipe(more: Partial<RecipeInput> = {}): Recipe {
  return checkRecipe({
    ...{ name: 'test', model: { from: 'x' }, data: { sources: ['x'] } },
    ...{ train: { decoder: 'full' }, optimizer: { learningRate: 1e-5 } },
    ...more,
  });
}
