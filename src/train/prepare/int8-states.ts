/** Adam's moments in 8 bits: of which parameters, and what that saves and costs. */

import { formatBytes, formatCount } from '../../base/format.js';
import type { SegmentedModel } from '../../models/index.js';
import { Embedding } from '../../nn/index.js';
import { int8Blocks, type ParameterGroup } from '../../optim/index.js';
import type { ChoiceRow } from './bases.js';
import type { ChosenPrecision } from './precision.js';

/** Smaller tensors keep fp32, as with bitsandbytes (`min_8bit_size`). */
const LEAST = 4096;

/** Names of those whose moments stay fp32: small ones, and embeddings, whose rows get a gradient now and then. */
export function notInt8(model: SegmentedModel): ReadonlySet<string> {
  const embeddings = [...model.namedModules()]
    .filter(([, module]) => module instanceof Embedding)
    .map(([path]) => `${path}.weight`);
  const small = [...model.namedParameters()].filter(([, { numel }]) => numel < LEAST);
  return new Set([...embeddings, ...small.map(([name]) => name)]);
}

export interface StateChoiceOptions {
  readonly precision: Pick<ChosenPrecision, 'states'>;
  /** Ranks that share the moments out. */
  readonly shares: number;
}

/** The row of moments in 8 bits, where they are. */
export function stateChoices(
  groups: readonly ParameterGroup[],
  { precision, shares }: StateChoiceOptions,
): ChoiceRow[] {
  if (precision.states !== 'int8') return [];
  const all = groups.flatMap(({ parameters, notInt8 }) =>
    [...parameters].map(([name, { numel }]) => ({ numel, inInt8: notInt8?.has(name) !== true })),
  );
  const taken = all.filter(({ inInt8 }) => inInt8);
  const sum = (of: (numel: number) => number): number =>
    taken.reduce((total, { numel }) => total + of(numel), 0) / shares;
  const single = sum((numel) => 8 * numel);
  const kept = sum((numel) => 2 * numel + 8 * int8Blocks(numel));
  const trained = all.reduce((total, { numel }) => total + numel, 0);
  const parameters = taken.reduce((total, { numel }) => total + numel, 0);
  return [
    {
      choice: `Adam's moments of ${formatCount(parameters)} of ${formatCount(trained)} parameters in 8 bits`,
      saves: single - kept,
      costs: `${formatBytes(kept)} in place of ${formatBytes(single)}; an update rounds both moments once more`,
      numerics:
        'moments are off by about 1 % (root mean square) of the largest of 256; updates are those of unrounded ones',
    },
  ];
}
