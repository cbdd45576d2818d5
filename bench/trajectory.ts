/**
 * Decoder blocks by hand against the composite, over many updates on the quickstart's records: in fp32 their losses are equal to rounding, in
 * bf16 they differ as the composite differs from itself when the records of each micro-batch come in another order.
 *
 *     node dist/bench/trajectory.js [--updates 200] [--layers 2] [--hidden 4096] [--records 4] [--mode full] [--policy keep]
 *                                   [--learning-rate 2e-5] [--dtypes float32,bfloat16] [--device cuda:0] [--json]
 *
 * An update has two micro-batches of so many records. Widths are LLaVA-Llama-3-8B's, weights random, masters and moments fp32; `lora`
 * (r 16) has a dropout of 0.1. Both types take more than 160 s of an H200. Exit code 1 where fp32 differs by more than 1e-4 (`--tolerance`), or bf16 by more than three times
 * that noise on average.
 */
import { parseArgs } from 'node:util';
import { UsageError } from '../src/base/errors.js';
import type { Device } from '../src/torch/index.js';
import type { MemoryPolicy } from '../src/train/step/memory-policy.js';
import { namesOf, runBench } from './command.js';
import { llava8b } from './shapes.js';
import { readPolicies } from './training-row.js';
import { distance, permuted, quickstartData, trajectory } from './trajectories.js';

const { values: flags } = parseArgs({
  options: {
    updates: { type: 'string', default: '200' },
    layers: { type: 'string', default: '2' },
    hidden: { type: 'string', default: '4096' },
    records: { type: 'string', default: '4' },
    mode: { type: 'string', default: 'full' },
    policy: { type: 'string', default: 'keep' },
    'learning-rate': { type: 'string', default: '2e-5' },
    dtypes: { type: 'string', default: 'float32,bfloat16' },
    tolerance: { type: 'string', default: '1e-4' },
    device: { type: 'string', default: 'cuda:0' },
    json: { type: 'boolean', default: false },
  },
});
/** How much farther than the composite from itself, on average. */
const NOISE_FACTOR = 3;

await runBench(async () => {
  const [mode] = namesOf('mode', flags.mode, ['lora', 'full']) as ['lora' | 'full'];
  const [policy] = readPolicies(flags.policy) as [MemoryPolicy];
  const dtypes = namesOf('type', flags.dtypes, ['float32', 'bfloat16']);
  if (!(Number(flags.records) >= 2)) {
    throw new UsageError(`a micro-batch of ${flags.records} records has no other order`, {
      code: 'E_USAGE',
      hint: 'Give --records from 2.',
    });
  }
  const config = llava8b({ layers: Number(flags.layers), hidden: Number(flags.hidden) });
  const data = await quickstartData(config, {
    updates: Number(flags.updates),
    records: Number(flags.records),
  });
  for (const dtype of dtypes) {
    const options = {
      ...{ config, dtype, data },
      device: flags.device as Device,
      ...{ mode, policy },
      learningRate: Number(flags['learning-rate']),
    };
    const composite = trajectory('composite', options);
    const apart = distance(trajectory('by hand', options), composite);
    const [first, last] = [composite[0]!, composite.at(-1)!];
    const shown = ({ largest, mean, first: begin }: typeof apart): string =>
      `largest ${largest.toExponential(2)}, mean ${mean.toExponential(2)}, first ${begin.toExponential(2)}`;
    // What rounds in fp32 is held against a number.
    const noise =
      dtype === 'float32'
        ? null
        : distance(trajectory('composite', { ...options, data: permuted(data) }), composite);
    const good =
      noise === null
        ? apart.largest <= Number(flags.tolerance)
        : apart.mean <= NOISE_FACTOR * noise.mean;
    if (!good) process.exitCode = 1;
    console.log(
      flags.json
        ? JSON.stringify({ dtype, mode, policy, first, last, apart, noise, good })
        : `${dtype} ${mode} ${policy}: loss ${first.toFixed(4)} to ${last.toFixed(4)} in ${data.length} updates
  by hand from composite   ${shown(apart)}  ${good ? 'ok' : 'FAIL'}${noise === null ? '' : `\n  composite, other order   ${shown(noise)}`}`,
    );
  }
});
