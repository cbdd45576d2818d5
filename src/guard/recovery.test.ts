/** What becomes of a bad update: nothing that it touched has changed, and going on is as if it had been known. */
import { mkdtempSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import type { RecipeInput } from '../config/index.js';
import { listCheckpoints } from '../train/index.js';
import { Guarded, spoilt, tinyRecord, type GuardedOptions } from './testing.js';

let folder: string;
const open: Guarded[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-recovery-'));
});
afterEach(() => {
  for (const each of open.splice(0)) each.dispose();
  rmSync(folder, { recursive: true });
});

let runs = 0;
async function run(options: GuardedOptions): Promise<Guarded> {
  const place = join(folder, `${runs++}`);
  mkdirSync(place);
  const guarded = await Guarded.make(options);
  open.push(guarded);
  return guarded.run(place);
}

const records = Array.from({ length: 16 }, (_, i) => (i === 5 ? spoilt(i) : tinyRecord(i)));
const QUARANTINED = { quarantine: [{ source: 'tiny.jsonl', line: 6 }] };

describe.each<[string, Partial<RecipeInput>]>([
  ['one process', {}],
  ['one micro-batch', { batchSize: 2, accumulate: 1 }],
  ['alone in its update', { accumulate: 1 }],
  [
    'LoRA with dropout',
    {
      train: { vision: 'frozen', projector: 'full', decoder: { lora: { rank: 2, dropout: 0.5 } } },
    },
  ],
  ['moments in bf16', { precision: { states: 'bf16' } }],
  ['boundaries on the host', { memory: { policy: 'offload' } }],
  ['no clipping', { optimizer: { learningRate: 3e-3, clipNorm: null } }],
  ['adaptive clipping', { optimizer: { learningRate: 3e-3, clipNorm: 'adaptive' } }],
  ['optimizer on the host', { parallel: { zero: 2, offload: 'optimizer' } }],
  ['parameters on the host', { parallel: { zero: 3, offload: 'parameters' } }],
])('%s', (_, recipe) => {
  test('a poisoned record leaves the weights of a run that had it in quarantine from the start, to the bit', async () => {
    const found = await run({ recipe, records });
    expect([found.error, found.recoveries.map(({ action }) => action)]).toEqual([
      null,
      ['quarantine'],
    ]);
    const known = await run({ recipe: { ...recipe, guard: QUARANTINED }, records });
    expect([known.error, known.recoveries]).toEqual([null, []]);
    expect(await stateOf(found)).toEqual(await stateOf(known));
  });

  test('an update that is left out changes no weight, moment or count', async () => {
    const first = recipe.accumulate === 1 && recipe.batchSize === undefined ? 5 : 2;
    const before = await run({
      recipe: {
        ...recipe,
        guard: { onBadUpdate: 'leave-out' },
        schedule: { updates: 8, warmupUpdates: 1, decay: 'constant' },
      },
      records,
      until: first,
    });
    const after = await run({
      recipe: { ...recipe, guard: { onBadUpdate: 'leave-out' } },
      records,
      until: first + 1,
    });
    expect(after.recoveries).toMatchObject([{ action: 'leave-out', update: first + 1 }]);
    expect(await stateOf(after)).toEqual(await stateOf(before));
  });
});

/** Weights, moments and counts in the last checkpoint, by file. */
async function stateOf({ folder: place }: Guarded): Promise<Record<string, string>> {
  const newest = (await listCheckpoints(place)).at(-1)!;
  const files = readdirSync(newest.path, { recursive: true, encoding: 'utf8' });
  const tensors = files.filter((name) => name.endsWith('.safetensors'));
  expect(tensors.length).toBeGreaterThan(1);
  return Object.fromEntries(
    tensors.map((name) => [name, readFileSync(join(newest.path, name)).toString('base64')]),
  );
}
