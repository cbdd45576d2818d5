import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { prepareQuickstart } from '../recipes/quickstart/prepare.js';
import { QUICKSTART_DATA } from '../recipes/quickstart/recipes.js';
import { main } from './main.js';

const before = process.cwd();
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'patina-quickstart-'));
  process.chdir(folder);
  await prepareQuickstart(QUICKSTART_DATA, { sizes: { train: 120, heldOut: 4, unseen: 3 } });
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

async function patina(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  const code = await main(args, {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
  });
  return { code, out, err };
}

test('patina quickstart trains in two stages, asks, and says what to type next', async () => {
  const short = ['--set', 'schedule.updates=3', '--set', 'batchSize=4'];
  const { code, out, err } = await patina('quickstart', ...short);
  expect({ code, err }).toEqual({
    code: 0,
    err: expect.stringMatching(/quickstart: captions(.|\n)*quickstart-questions: .*LoRA/) as string,
  });
  expect(out).toMatch(/pictures never shown: \d+ of \d+ answers are right \(\d+\.\d %\)/);
  expect(out).toMatch(/shapes in colours never shown together: \d+ of \d+ /);
  expect(out).toMatch(/ pictures\/heldout-0000.png +What shape is shown\?/);
  const next = out.split('\n').filter((line) => line.startsWith('  patina '));
  const words = next.map((line) =>
    line.match(/"[^"]+"|\S+/g)!.map((word) => word.replace(/"/g, '')),
  );
  expect(words.map(([, command]) => command)).toEqual(['chat', 'show', 'runs', 'train']);
  for (const [, ...args] of words.slice(0, 3)) {
    const typed = await patina(...args);
    expect(typed, args.join(' ')).toMatchObject({ code: 0 });
    expect(typed.out, args.join(' ')).not.toBe('');
  }
});

test('--json prints the counts as one object', async () => {
  const short = ['--set', 'schedule.updates=1', '--set', 'batchSize=2'];
  const { code, out } = await patina('quickstart', '--json', ...short);
  expect(code).toBe(0);
  const { heldOut, unseen, model } = JSON.parse(out) as Record<string, Record<string, number>>;
  expect(heldOut!['asked']).toBeGreaterThan(unseen!['asked']!);
  expect(heldOut!['accuracy']).toBe(heldOut!['right']! / heldOut!['asked']!);
  expect(model).toBe(join(process.cwd(), QUICKSTART_DATA, 'model'));
});

test('wrong settings and places that cannot be written are told at once', async () => {
  const wrong = await patina('quickstart', '--set', 'schedule.update=3');
  expect(wrong).toMatchObject({ code: 2, out: '' });
  expect(wrong.err).toMatch(/unknown key\. Did you mean "updates"\?/);
  expect(wrong.err).not.toContain('drawing');
  const elsewhere = mkdtempSync(join(tmpdir(), 'patina-quickstart-'));
  process.chdir(elsewhere);
  try {
    const first = await patina('train', 'quickstart-questions');
    expect(first.code).toBe(4);
    expect(first.err).toContain('to be had: run `patina quickstart`');
    writeFileSync('runs', 'a file');
    const blocked = await patina('quickstart');
    expect(blocked.code).toBe(3);
    expect(blocked.err).toContain('code: E_UNWRITABLE');
  } finally {
    process.chdir(folder);
    rmSync(elsewhere, { recursive: true });
  }
});
