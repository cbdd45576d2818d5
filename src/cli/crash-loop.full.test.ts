/** Training that is killed again and again, at any moment, ends with the weights that it ends with undisturbed. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { verifyCheckpoint, type TrainEvent } from '../train/index.js';
import { ColourFolder } from '../train/testing-files.js';

const KILLS = 40;
const UPDATES = 30;

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());

/** When a process is killed: so many events after the first, and a little later. */
const moment = fc.record({ events: fc.nat(2 * UPDATES), milliseconds: fc.nat(15) });
type Moment = typeof moment extends fc.Arbitrary<infer T> ? T : never;

const run = (name: string): string => join(folder.runs, name);

/** Begins the run of this name, or goes on with it. */
async function patinaTrain(name: string, kill?: Moment): Promise<'finished' | 'killed'> {
  const recipe = folder.at(`${name}.json`);
  const settings = folder.recipe({
    schedule: { updates: UPDATES },
    checkpoints: { everyUpdates: 1 },
    run: { root: folder.runs, name },
  });
  writeFileSync(recipe, JSON.stringify(settings));
  const what = existsSync(run(name)) ? ['--resume', run(name)] : [recipe];
  const child = spawn(join(packageRoot(), 'bin/patina.js'), ['train', ...what, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  let begun = false;
  let left = kill?.events ?? Infinity;
  for await (const line of createInterface({ input: child.stdout })) {
    begun ||= (JSON.parse(line) as TrainEvent).type === 'start';
    if (!begun || left-- > 0) continue;
    await sleep(kill!.milliseconds);
    child.kill('SIGKILL');
    break;
  }
  child.stdout.resume();
  const { code, signal } = await ended;
  if (signal === 'SIGKILL') return 'killed';
  expect(code, errors).toBe(0);
  return 'finished';
}

/** Checkpoints of a run, and what the killed have left of others under hidden names. */
function saved(name: string): string[] {
  const parent = join(run(name), 'checkpoints');
  return existsSync(parent) ? readdirSync(parent).map((each) => join(parent, each)) : [];
}

const isHidden = (path: string): boolean => basename(path).startsWith('.');

/** Weights and the optimizer's state after the last update. */
function result(name: string): Map<string, Buffer> {
  const last = join(run(name), 'checkpoints', `update-${String(UPDATES).padStart(8, '0')}`);
  const files = readdirSync(last, { recursive: true, encoding: 'utf8' });
  const tensors = files.filter((file) => file.endsWith('.safetensors'));
  return new Map(tensors.map((file) => [file, readFileSync(join(last, file))]));
}

test(`${KILLS} kills change no bit`, async () => {
  const seed = Number(process.env['PATINA_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`crash loop: PATINA_SEED=${seed}`);
  expect(await patinaTrain('undisturbed')).toBe('finished');
  const expected = result('undisturbed');
  expect(expected.size).toBeGreaterThan(1);

  const moments = fc.sample(moment, { seed, numRuns: 4 * KILLS });
  let [kills, halves, runs] = [0, 0, 0];
  for (; kills < KILLS; runs++) {
    const name = `disturbed-${runs}`;
    while ((await patinaTrain(name, moments.pop())) === 'killed') {
      kills++;
      halves += Number(saved(name).some(isHidden));
      // Whatever bears the name of a checkpoint is a whole one.
      for (const path of saved(name)) if (!isHidden(path)) await verifyCheckpoint(path);
    }
    const found = result(name);
    expect([...found.keys()]).toEqual([...expected.keys()]);
    for (const [file, bytes] of found) expect(bytes.equals(expected.get(file)!), file).toBe(true);
  }
  console.log(`crash loop: ${runs} runs, ${kills} kills, ${halves} of them within a checkpoint`);
}, 900_000);
