import { expect, test } from 'vitest';
import { choosePrecision } from './precision.js';
import { refuseLateFactors } from './prepare-run.js';

const bf16 = {
  compute: 'bf16',
  master: 'fp32',
  states: 'fp32',
  lossScale: { initial: 65_536, window: 1000, hysteresis: 2, minimum: 1 },
} as const;

test.each([8, 9])('update-in-backward runs in bf16 on a card of capability %d', (capability) => {
  const precision = choosePrecision(bf16, { name: 'A card', capability });
  expect(() => refuseLateFactors(precision, { accumulate: 1 })).not.toThrow();
});

test('update-in-backward is refused where an older card falls back to fp16, and with accumulation', () => {
  const precision = choosePrecision(bf16, { name: 'An older card', capability: 7.5 });
  expect(() => refuseLateFactors(precision, { accumulate: 1 })).toThrow(
    expect.objectContaining({
      code: 'E_UPDATE_IN_BACKWARD',
      message: expect.stringMatching(/excludes fp16.*An older card has no bf16/) as string,
    }) as Error,
  );
  const cpu = choosePrecision(bf16, { name: 'the CPU', capability: null });
  expect(() => refuseLateFactors(cpu, { accumulate: 2 })).toThrow(/accumulates 2/);
});
