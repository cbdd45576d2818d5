/** Number types of a run: what the recipe asks for, or what the device can do in its place, with the reason. */

import type { Recipe } from '../../config/index.js';
import type { MasterWeights, StateType } from '../../optim/index.js';
import type { ChosenDevice, DType } from '../../torch/index.js';

export interface ChosenPrecision {
  /** Of activations, frozen weights and trained weights. */
  readonly compute: DType;
  readonly master: MasterWeights;
  /** Of Adam's moments. */
  readonly states: StateType;
  /** Whether losses are scaled (fp16). */
  readonly scaled: boolean;
  /** One sentence for the start of the run. */
  readonly statement: string;
}

const DTYPES = { bf16: 'bfloat16', fp16: 'float16', fp32: 'float32' } as const;
/** From Ampere on. */
const BF16_CAPABILITY = 8;

export function choosePrecision(
  { compute: wanted, master, states }: Recipe['precision'],
  { name, capability }: Pick<ChosenDevice, 'name' | 'capability'>,
): ChosenPrecision {
  const { compute, reason } = fallback(wanted, capability);
  const changed = compute !== wanted;
  const kept = compute === 'bf16' && master === 'bf16' ? 'stochastic' : 'float32';
  const weights =
    compute === 'fp32'
      ? ''
      : kept === 'stochastic'
        ? ', weights kept in bf16 with stochastic rounding'
        : ', weights kept in fp32';
  return {
    compute: DTYPES[compute],
    master: kept,
    // Eight bits are no matter of the device.
    states: states === 'int8' ? 'int8' : changed ? 'float32' : DTYPES[states],
    scaled: compute === 'fp16',
    statement: changed
      ? `computes in ${compute} in place of ${wanted}${weights}: ${reason(name)}`
      : `computes in ${compute}${weights}`,
  };
}

type Compute = Recipe['precision']['compute'];

function fallback(
  wanted: Compute,
  capability: number | null,
): { compute: Compute; reason: (name: string) => string } {
  if (capability === null && wanted !== 'fp32') {
    return { compute: 'fp32', reason: () => `CPUs are slow in ${wanted}` };
  }
  if (wanted === 'bf16' && capability !== null && capability < BF16_CAPABILITY) {
    return {
      compute: 'fp16',
      reason: (name) => `${name} has no bf16 (compute capability ${capability})`,
    };
  }
  return { compute: wanted, reason: () => '' };
}
