/** The planner beside a CPU: figures lie apart there, since kernels and types do, but each says what it says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { liveTensors } from '../src/torch/index.js';
import { readConfigs, type PlanConfig } from './plan-config.js';
import { measureAlone, OUT_OF_MEMORY, predict, type Figures, type Measured } from './plan-row.js';
import { summary, type PlanRow } from './plan-summary.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-plan-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function read(...configs: object[]): PlanConfig[] {
  const file = join(folder, 'configs.json');
  writeFileSync(file, JSON.stringify(configs));
  return readConfigs(file);
}

const SMALL = {
  model: { layers: 1, hidden: 512, text: true },
  batch: [{ text: 40 }, { text: 30 }],
};

test('a file that is none is refused, with the field that is wrong', () => {
  expect(() => readConfigs(join(folder, 'nowhere.json'))).toThrow(/nowhere\.json/);
  expect(() => read({ name: 'a', batch: [] })).toThrow(/batch/);
  expect(() => read({ ...SMALL, name: 'a', layers: 3 })).toThrow(/layers/);
});

describe.each([
  ['full', {}],
  [
    'LoRA over NF4, in two micro-batches',
    { 'train.decoder': { lora: {}, base: 'nf4' }, accumulate: 2 },
  ],
  ['optimizer in host memory', { 'parallel.offload': 'optimizer' }],
])('%s', (name, set) => {
  test('is planned and measured by the same functions, and leaves nothing', async () => {
    const [config] = read({ ...SMALL, name, set }) as [PlanConfig];
    const predicted = await predict(config, 'cpu');
    // The first step of a process makes what stays.
    const before = liveTensors();
    const measured = (await measureAlone(config, 'cpu')) as Figures;
    expect(measured.allocated).toBeGreaterThan(0);
    expect(measured.seconds).toBeGreaterThan(0);
    // The card computes in 2 bytes what the CPU does in 4; masters and moments are the same, but where they lie on the host.
    expect(measured.allocated / predicted.allocated).toBeGreaterThan(0.5);
    expect(measured.allocated / predicted.allocated).toBeLessThan(4);
    expect(liveTensors()).toBeLessThanOrEqual(before);
  });
});

test('phases between updates are planned and measured too', async () => {
  const more = { validation: [{ text: 400 }], probes: [{ text: 300, newTokens: 2 }] };
  const [without, config] = read(
    { ...SMALL, name: 'updates alone' },
    { ...SMALL, name: 'with phases', between: more },
  ) as [PlanConfig, PlanConfig];
  const figures = async (each: PlanConfig) =>
    [await predict(each, 'cpu'), (await measureAlone(each, 'cpu')) as Figures] as const;
  const [plain, phases] = [await figures(without), await figures(config)];
  // Copies for a checkpoint are the CPU's own memory; a card's they are not.
  expect(phases[1].allocated).toBeGreaterThan(1.3 * plain[1].allocated);
  expect(phases[0].allocated).toBeGreaterThanOrEqual(plain[0].allocated);
  expect(phases[0].allocated).toBeLessThan(1.3 * plain[0].allocated);
  expect(() => read({ ...SMALL, name: 'a', between: { probes: [{}] } })).toThrow(/probes/);
});

test('what takes more than its limit is out of memory, as planned', async () => {
  const [config] = read({ ...SMALL, name: 'limited', limitGiB: 0.5 }) as [PlanConfig];
  expect((await predict(config, 'cpu')).fits).toBe(false);
  expect(await measureAlone(config, 'cpu')).toEqual({ failed: OUT_OF_MEMORY });
});

test('the summary counts what lay near enough, and names what did not', () => {
  const [config, limited] = read({ ...SMALL, name: 'a' }, { ...SMALL, name: 'b', limitGiB: 1 });
  const figures = { allocated: 100, reserved: 100, total: 100, seconds: 1 };
  const row = (predicted: object, measured: Measured, of = config!): PlanRow => ({
    ...{ name: of.name, config: of, measured },
    predicted: { ...figures, fits: true, ...predicted },
  });
  const text = summary([
    row({ allocated: 102 }, figures),
    row({ allocated: 96, seconds: 1.3 }, figures),
    row({}, { failed: OUT_OF_MEMORY }, limited),
    row({}, { failed: 'the card fell off' }),
  ]);
  expect(text.split('\n')).toEqual([
    '4 configurations',
    'allocated: 1 of 2 within 3 %, the farthest -4.0 % (a)',
    'reserved: 2 of 2 within 5 %, the farthest +0.0 % (a)',
    'total: 2 of 2 within 5 %, the farthest +0.0 % (a)',
    'seconds: 1 of 2 within 10 %, the farthest +30.0 % (a)',
    'verdicts: 0 of 1 right',
    '  b: was to fit',
    'failed: a: the card fell off',
  ]);
});
