/** The planner beside a CPU: figures lie apart there, since kernels and types do, but each says what it says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { liveTensors } from '../src/torch/index.js';
import { readConfigs, type PlanConfig } from './plan-config.js';
import { measureAlone, OUT_OF_MEMORY, predict, type Figures } from './plan-row.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-plan-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function read(...configs: object[]): readonly PlanConfig[] {
  const file = join(folder, 'configs.json');
  writeFileSync(file, JSON.stringify(configs));
  const { good, bad } = readConfigs(file);
  if (bad.length > 0) throw new Error(bad.map(({ faults }) => faults).join('; '));
  return good;
}

const SMALL = {
  model: { layers: 1, hidden: 512, text: true },
  batch: [{ text: 40 }, { text: 30 }],
};

describe.each([
  ['full', {}, 2],
  [
    'LoRA over NF4, in two micro-batches',
    { 'train.decoder': { lora: {}, base: 'nf4' }, accumulate: 2 },
    2,
  ],
  // A CPU has all of it in the memory that a card has only weights and gradients in.
  ['optimizer in host memory', { 'parallel.offload': 'optimizer' }, 5],
])('%s', (name, set, most) => {
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
    expect(measured.allocated / predicted.allocated).toBeLessThan(most);
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
