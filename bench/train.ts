/**
 * Tokens per second and peak memory of training steps on a LLaVA-Llama-3-8B shape with random bf16 weights, one row per
 * setting; `bench/gpu/train.sh` runs the peer (transformers + peft) beside it.
 *
 *     node dist/bench/train.js [--modes lora,full] [--policies recompute,attention,products,keep,offload] [--layers 32]
 *                              [--rows 4] [--tokens 2048] [--dropout 0] [--steps 6] [--device cuda:0] [--json]
 *
 * `full-ub` is full training with update-in-backward. Weights, gradients and Adam's moments of `full` are bf16, like the peer's.
 */

import { parseArgs } from 'node:util';
import { checkRecipe } from '../src/config/index.js';
import { finish, Llava, makeBatch } from '../src/models/index.js';
import { kernelsFor } from '../src/nn/index.js';
import { AdamW, Gate, schedule } from '../src/optim/index.js';
import {
  emptyCache,
  RandomGenerator,
  memoryStats,
  resetPeak,
  synchronize,
  type Device,
  type DType,
} from '../src/torch/index.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies, type MemoryPolicy } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { prepareTrainable } from '../src/train/prepare/trainable.js';
import { UpdateInBackward } from '../src/train/step/update-in-backward.js';
import { runUpdate } from '../src/train/step/update.js';
import { llava8b, sample } from './llava-8b.js';

const { values: flags } = parseArgs({
  options: {
    modes: { type: 'string', default: 'lora,full,full-ub' },
    policies: { type: 'string', default: 'recompute,attention,products,keep' },
    dropout: { type: 'string', default: '0' },
    layers: { type: 'string', default: '32' },
    rows: { type: 'string', default: '4' },
    tokens: { type: 'string', default: '2048' },
    steps: { type: 'string', default: '6' },
    device: { type: 'string', default: 'cuda:0' },
    hidden: { type: 'string', default: '4096' },
    json: { type: 'boolean', default: false },
  },
});
const device = flags.device as Device;
const [rows, tokens, steps] = [Number(flags.rows), Number(flags.tokens), Number(flags.steps)];
const dtype: DType = device === 'cpu' ? 'float32' : 'bfloat16';

const config = llava8b({ layers: Number(flags.layers), hidden: Number(flags.hidden) });

function measure(mode: string, policy: MemoryPolicy): Record<string, string | number> {
  const full = mode.startsWith('full');
  const recipe = checkRecipe({
    name: 'bench',
    model: { from: 'x' },
    data: { sources: ['x'] },
    train: {
      decoder: full ? 'full' : { lora: { rank: 16, alpha: 32, dropout: Number(flags.dropout) } },
      projector: 'full',
    },
    optimizer: { learningRate: 2e-5 },
  });
  const kernels = kernelsFor({ device, dtype });
  const model = new Llava(config, { dtype, kernels });
  const generator = RandomGenerator.create(1, device);
  const trainable = prepareTrainable(model, { ...recipe, dtype, device, generator });
  const optimizer = new AdamW(trainable.groups, { master: 'none', states: dtype });
  const batch = makeBatch(
    Array.from({ length: rows }, (_, i) => sample(i, tokens)),
    model.input,
    { device },
  );
  const randomness = new Randomness(1);
  const parts = { model, optimizer, gate: new Gate(device), randomness };
  const setup = {
    model,
    device,
    store: mode === 'full-ub' ? new UpdateInBackward(parts) : new AccumulatingStore(parts),
    randomness,
    policies: memoryPolicies(model.segments, { policy }),
    schedule: schedule({ shape: 'constant', updates: steps }),
  };
  resetPeak(device);
  const weights = memoryStats(device).allocated;
  const seconds: number[] = [];
  let loss = NaN;
  for (let update = 0; update < steps; update++) {
    synchronize(device);
    const start = performance.now();
    const { numbers, supervised } = finish(runUpdate(setup, update, [batch]));
    const queued = performance.now() - start;
    const { lossSum } = numbers.read();
    synchronize(device);
    loss = lossSum[0]! / supervised;
    seconds.push((performance.now() - start) / 1000);
    process.stderr.write(
      `${mode} ${policy} step ${update} loss ${loss.toFixed(4)} s ${seconds.at(-1)!.toFixed(4)} queued ${queued.toFixed(0)} ms\n`,
    );
  }
  const peak = memoryStats(device).peakAllocated;
  setup.store.dispose();
  model.dispose();
  generator.dispose();
  disposeBatch(batch);
  emptyCache(device);
  const median = seconds.sort((a, b) => a - b)[Math.floor(seconds.length / 2)]!;
  return {
    mode,
    policy,
    tokensPerSecond: Math.round((rows * tokens) / median),
    peakGiB: Number((peak / 2 ** 30).toFixed(2)),
    weightsGiB: Number((weights / 2 ** 30).toFixed(2)),
    loss: Number(loss.toFixed(4)),
  };
}

function disposeBatch({
  inputIds,
  positions,
  sequences,
  images,
  supervised,
}: ReturnType<typeof makeBatch>): void {
  const all = [inputIds, positions, sequences.starts, supervised.positions, supervised.targets];
  if (images !== null) all.push(images.pixelValues, images.positions);
  for (const tensor of all) tensor.dispose();
}

for (const mode of flags.modes.split(',')) {
  for (const policy of flags.policies.split(',') as MemoryPolicy[]) {
    try {
      const row = measure(mode, policy);
      console.log(
        flags.json
          ? JSON.stringify(row)
          : `PATINA ${mode} ${policy} B=${rows} S=${tokens} weights=${row['weightsGiB']!}GiB tok/s=${row['tokensPerSecond']!} peak=${row['peakGiB']!}GiB loss=${row['loss']!}`,
      );
    } catch (error) {
      console.log(`PATINA ${mode} ${policy} failed: ${(error as Error).message}`);
    }
  }
}
