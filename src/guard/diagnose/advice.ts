/** What to do about a cause, with the change to make. */

import { formatNumber } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import type { Cause } from '../causes.js';
import { tooHighRate, usualRate } from '../usual-rate.js';

export interface AdviceFacts {
  readonly recipe: Recipe;
  /** Records of the update. */
  readonly sequences: number;
  /** Of the decoder, where it is known. */
  readonly hiddenSize?: number | undefined;
  /** Whether the run leaves the records out from now on. @default false */
  readonly quarantined?: boolean;
}

/** The page about a cause. */
export function pageOf(cause: Cause): string {
  return `docs/causes/${cause}.md`;
}

export function advice(cause: Cause, facts: AdviceFacts): string {
  if (cause === 'learning-rate-too-high') return lowerRate(facts);
  const told = ADVICE[cause] ?? 'see the evidence, and run `patina check` on the recipe';
  if (facts.quarantined === true)
    return `${told}; this run leaves what spoilt the update out from now on`;
  return cause === 'poisoned-record' ? `${told}; ${BY_ITSELF}` : told;
}

/** To what such models are trained at, or to a tenth, whichever is less. */
function lowerRate({ recipe, sequences, hiddenSize }: AdviceFacts): string {
  const { optimizer } = recipe;
  const high = hiddenSize === undefined ? null : tooHighRate(recipe, hiddenSize);
  if (high !== null && high.field !== 'optimizer.learningRate') {
    return `lower what is too high: --set ${high.field}=${formatNumber(high.fit)}`;
  }
  const usual = hiddenSize === undefined ? Infinity : usualRate(recipe, hiddenSize).rate;
  const tenth = optimizer.learningRate / 10;
  const lower = Math.min(usual, tenth);
  const parts = [`--set optimizer.learningRate=${formatNumber(lower)}`];
  if (optimizer.clipNorm === null && !optimizer.updateInBackward) {
    parts.push('--set optimizer.clipNorm=1');
  }
  if (recipe.schedule.warmupUpdates === 0) parts.push('--set schedule.warmupUpdates=30');
  // No batch bears a rate that is far above the usual one.
  const batch =
    sequences < 8 && tenth <= usual
      ? `; or give the rate the batch that it is meant for: --set effectiveBatch=16`
      : '';
  return `lower the learning rate: ${parts.join(' ')}${batch}`;
}

const BY_ITSELF = '--set guard.onBadUpdate=quarantine leaves it out by itself';

const ADVICE: Partial<Readonly<Record<Cause, string>>> = {
  'no-clipping': 'clip the gradient: --set optimizer.clipNorm=1 (or adaptive)',
  'poisoned-record': 'look at the record with `patina show --data`, and mend or remove it',
  'fp16-overflow-vision':
    'compute in a type with the range of fp32: --set precision.compute=bf16 (or fp32 on a card without bf16)',
  'fp16-overflow-decoder':
    'compute in a type with the range of fp32: --set precision.compute=bf16 (or fp32 on a card without bf16)',
  'scale-at-minimum': 'leave the record out, or compute in bf16: --set precision.compute=bf16',
  'silent-skip':
    'let the scale grow less often, or compute in a type with the range of fp32: --set precision.lossScale.window=1000, or --set precision.compute=bf16',
  'weights-not-finite':
    'load the weights again from their source (`patina check` names the tensors), or go on from an earlier checkpoint',
  'untrained-token-rows':
    'do not use these words, or give their rows the mean of the others and train the embeddings: --set train.decoder=full',
  'broken-image': 'mend or remove the picture; `patina check` finds all of them',
  'masked-attention-row':
    'report it: a position has nothing to attend to, which packed sequences never leave; train on with --set batchSize=1 meanwhile',
  'varlen-garbage':
    'report it with the device and driver of `patina doctor`; train on with --set batchSize=1 meanwhile',
  'loss-kernel':
    'report it with the device and driver of `patina doctor`; another size of chunk may go around it: --set memory.lossChunk=512',
  'overlap-race':
    'report it with the recipe; train on without what overlaps: --set parallel.zero=0',
  'offload-race':
    'report it with the recipe; train on without offload: --set memory.policy=recompute --set parallel.offload=none',
  'hardware-fault':
    'look at the health of the device (`nvidia-smi -q -d ECC`, dmesg for Xid), and keep the run off it',
  'collective-mismatch':
    'make sure that all ranks run the same version with the same recipe, data and models',
  'low-precision-positions': 'keep the frequencies of positions in fp32',
  'low-precision-weights':
    'raise the learning rate (optimizer.learningRate, or that of the group in optimizer.groups) to where published recipes have it; `patina check` names theirs',
  'no-gradient':
    'freeze what is to stay as it is, or mend what cuts it off; see the table of what trains',
  'no-supervision':
    'see with `patina show --data` what of the records is learnt, and mend template or `text.maxLength`',
};
