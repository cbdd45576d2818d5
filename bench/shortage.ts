/**
 * Memory that falls while a run goes: the same run undisturbed, with half the micro-batches and twice as many of them, and with a limit that is lowered after
 * the second update to the middle of what those two take. It goes on with halved micro-batches, and its losses are those of the others.
 *
 *     node dist/bench/shortage.js [--layers 2] [--hidden 4096] [--records 64] [--updates 6] [--tolerance 1e-4] [--device cuda:0]
 *
 * A decoder of LLaVA-Llama-3-8B's widths with random weights, the quickstart's tower and records (so many an update), in fp32. Exit code 1 where losses
 * differ by more than the tolerance, or memory sufficed.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkRecipe, type RecipeInput } from '../src/config/index.js';
import { prepareQuickstart } from '../src/recipes/quickstart/prepare.js';
import { emptyCache, memoryStats, setMemoryLimit, type Device } from '../src/torch/index.js';
import { train } from '../src/train/index.js';
import { amountOf, runBench } from './command.js';
import { wideQuickstart } from './shapes.js';

const { values: flags } = parseArgs({
  options: {
    layers: { type: 'string', default: '2' },
    hidden: { type: 'string', default: '4096' },
    records: { type: 'string', default: '64' },
    updates: { type: 'string', default: '6' },
    tolerance: { type: 'string', default: '1e-4' },
    device: { type: 'string', default: 'cuda:0' },
  },
});
const device = flags.device as Device;

/** After so many updates memory falls. */
const FALLS_AFTER = 2;

interface Course {
  readonly losses: readonly number[];
  /** Bytes that an update took beside what lasts, most. */
  readonly taken: number;
  /** What the run said of its recoveries. */
  readonly said: readonly string[];
}

await runBench(async () => {
  const records = amountOf('records', flags.records);
  const updates = amountOf('updates', flags.updates);
  const tolerance = amountOf('tolerance', flags.tolerance);
  const root = await mkdtemp(join(tmpdir(), 'patina-shortage-'));
  try {
    const data = join(root, 'data');
    await prepareQuickstart(data, { sizes: { train: 400, heldOut: 1, unseen: 1 } });
    for (const method of ['full', 'lora'] as const) {
      const recipe = {
        ...{ name: method, batchSize: records, accumulate: 1, device },
        model: {
          config: wideQuickstart({ layers: Number(flags.layers), hidden: Number(flags.hidden) }),
          tokenizer: join(data, 'tokenizer'),
        },
        train: { decoder: method === 'full' ? 'full' : { lora: { rank: 16, alpha: 32 } } },
        data: { sources: [join(data, 'questions.json')] },
        ...{ schedule: { updates }, memory: { policy: 'keep' }, precision: { compute: 'fp32' } },
        // Adam turns the rounding of gradients that are nearly 0 into whole steps, but for a large epsilon.
        optimizer: { learningRate: 1e-3, epsilon: 1e-2 },
        ...{ text: { maxLength: 192 }, image: { mode: 'crop' } },
        ...{ checkpoints: { everyUpdates: 100_000 }, run: { root: join(root, 'runs') } },
      } satisfies RecipeInput;
      const undisturbed = await course(recipe);
      const halved = await course({ ...recipe, batchSize: records / 2, accumulate: 2 });
      const short = await course(recipe, (undisturbed.taken + halved.taken) / 2);
      const apart = ({ losses }: Course): number =>
        Math.max(...undisturbed.losses.map((loss, i) => Math.abs(losses[i]! / loss - 1)));
      const good = short.said.length > 0 && apart(short) <= tolerance;
      if (!good) process.exitCode = 1;
      const shown = (each: Course): string =>
        `${each.losses.map((loss) => loss.toFixed(5)).join(' ')}  apart ${apart(each).toExponential(1)}, ${(each.taken / 2 ** 20).toFixed(0)} MiB an update`;
      console.log(`${method}
  undisturbed ${shown(undisturbed)}
  halved      ${shown(halved)}
  memory fell ${shown(short)}  ${good ? 'ok' : 'FAIL'}
${short.said.map((each) => `    ${each}`).join('\n')}`);
    }
  } finally {
    await rm(root, { recursive: true });
  }
});

/** @param room bytes beside what lasts, from the fall on. @default as much as there is */
async function course(recipe: RecipeInput, room = Infinity): Promise<Course> {
  const [losses, said]: [number[], string[]] = [[], []];
  let taken = 0;
  try {
    for await (const event of train(checkRecipe(recipe))) {
      if (event.type === 'recovery') said.push(event.message);
      if (event.type !== 'update') continue;
      losses.push(event.loss!);
      const lasting = memoryStats(device).allocated;
      taken = Math.max(taken, event.memory.peakBytes - lasting);
      if (event.update === FALLS_AFTER && room < Infinity) setMemoryLimit(device, lasting + room);
    }
  } finally {
    setMemoryLimit(device, null);
    emptyCache(device);
  }
  return { losses, taken, said };
}
