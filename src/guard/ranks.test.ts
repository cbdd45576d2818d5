/** The guard over several ranks: all of them examine a bad update together, and come to the same. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import type { RecipeInput } from '../config/index.js';
import { runRanks } from '../parallel/testing.js';
import type { RankSaid } from './testing.js';
import type { Race } from './testing-races.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-guard-ranks-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const QUARANTINE = { quarantine: [{ source: 'tiny.jsonl', line: 6 }] };
async function train(
  recipe: Partial<RecipeInput>,
  name: string,
  fault: { readonly race?: Race; readonly astray?: string } = {},
): Promise<RankSaid[]> {
  const path = pathToFileURL(`${packageRoot()}/dist/src/guard/testing.js`).href;
  const place = join(folder, name);
  mkdirSync(place);
  const ends = await runRanks(
    2,
    `
    const { trainOnRank } = await import('${path}');
    torch.setThreads(1);
    const world = await join({ timeout: ${fault.astray === undefined ? 60_000 : 4_000} });
    say(await trainOnRank(world, ${JSON.stringify({ recipe, folder: place, ...fault })}));
    `,
  );
  return ends.map(({ said }) => said[0] as RankSaid);
}

test.each<RecipeInput['parallel']>([{ zero: 0 }, { zero: 2 }, { zero: 3, offload: 'optimizer' }])(
  'with %o a poisoned record is found on its rank, and leaves weights as if it had been known',
  async (parallel) => {
    const [first, second] = await train({ parallel }, 'found');
    expect(first).toMatchObject({
      causes: ['poisoned-record'],
      ranks: [1],
      actions: ['quarantine'],
      lines: [6],
      error: null,
    });
    expect(second).toEqual(first);
    const [known] = await train({ parallel, guard: QUARANTINE }, 'known');
    expect(known).toMatchObject({ causes: [], actions: [], error: null });
    expect(first!.losses).toEqual(known!.losses);
    expect(tensorsIn(join(folder, 'found'))).toEqual(tensorsIn(join(folder, 'known')));
  },
  60_000,
);

const LABEL = 'decoder.1';
test.each<[string, RecipeInput['parallel'], Omit<Race, 'skipsWait'>]>([
  [
    'parameters are read before they are gathered',
    { zero: 3 },
    { kind: 'allGather', label: LABEL },
  ],
  [
    'gradients are read before they are summed',
    { zero: 2 },
    { kind: 'reduceScatter', label: LABEL },
  ],
])(
  'where %s a race is named, and no record; where they are late, nothing',
  async (_, parallel, race) => {
    const raced = await train({ parallel }, 'raced', { race: { ...race, skipsWait: true } });
    expect(new Set(raced[0]!.causes), JSON.stringify(raced)).toEqual(new Set(['overlap-race']));
    expect(raced[0]!.lines).toEqual([]);
    expect(raced[1]).toEqual(raced[0]);
    const [late] = await train({ parallel }, 'late', { race: { ...race, skipsWait: false } });
    expect(late).toMatchObject({ causes: [], actions: [], error: null });
  },
  60_000,
);

test('a rank that calls what no other does is told from one that is slow', async () => {
  const ends = await train({ parallel: { zero: 2 } }, 'astray', {
    astray: 'numbers of the update',
  });
  for (const { causes, error } of ends) {
    expect([causes, error]).toEqual([
      ['collective-mismatch'],
      expect.stringMatching(/rank \d calls something else as its call/),
    ]);
  }
}, 60_000);

/** Files of tensors in the newest checkpoint. */
function tensorsIn(run: string): Record<string, string> {
  const newest = readdirSync(run).sort().at(-1)!;
  const files = readdirSync(join(run, newest), { recursive: true, encoding: 'utf8' });
  const tensors = files.filter((name) => name.endsWith('.safetensors'));
  expect(tensors.length).toBeGreaterThan(1);
  return Object.fromEntries(
    tensors.map((name) => [name, readFileSync(join(run, newest, name)).toString('base64')]),
  );
}
