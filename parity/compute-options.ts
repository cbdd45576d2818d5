/** What the runners of `llava` and `train` compute on and keep: `--device`, `--policy`, `--packed`. */
import type { parseArgs } from 'node:util';
import { UsageError } from '../src/base/errors.js';
import type { Batch } from '../src/models/index.js';
import type { Device } from '../src/torch/index.js';
import type { MemoryPolicy } from '../src/train/step/memory-policy.js';

export const COMPUTE_OPTIONS = {
  device: { type: 'string', default: 'cpu' },
  policy: { type: 'string', default: 'keep' },
  packed: { type: 'boolean', default: false },
} as const;

type ComputeFlags = ReturnType<typeof parseArgs<{ options: typeof COMPUTE_OPTIONS }>>['values'];

const DEVICES = ['cpu', 'cuda'] as const;
const POLICIES = ['keep', 'products', 'attention', 'recompute', 'offload'] as const;

export interface ComputeChoice {
  readonly device: Device;
  /** What segments keep between forward and backward. */
  readonly policy: MemoryPolicy;
  /** Whether to say how each micro-batch lies in its row. */
  readonly packed: boolean;
}

/** @throws UsageError `E_USAGE` for a device or a policy that there is not */
export function computeChoice(kind: string, flags: ComputeFlags): ComputeChoice {
  const choose = <T extends string>(option: string, value: string, known: readonly T[]): T => {
    const found = known.find((each) => each === value);
    if (found !== undefined) return found;
    throw new UsageError(`parity ${kind} cannot run with --${option} ${value}.`, {
      code: 'E_USAGE',
      hint: `Give one of ${known.join(', ')}.`,
    });
  };
  return {
    device: choose('device', flags.device, DEVICES),
    policy: choose('policy', flags.policy, POLICIES),
    packed: flags.packed,
  };
}

/**
 * All records of a micro-batch lie in one row, one after another without padding: batches are made in no other way, and
 * `--packed` says it of each.
 */
export function sayPacked(index: number, { inputIds, sequences, counts }: Batch): void {
  const [rows, tokens] = inputIds.shape as [number, number];
  const records = `${counts.sequences} ${counts.sequences === 1 ? 'record' : 'records'}`;
  const row = rows === 1 ? 'one row' : `${rows} rows`;
  console.log(
    `micro-batch ${index}: ${records} in ${row} of ${tokens} tokens (${sequences.lengths.join(' + ')})`,
  );
}
