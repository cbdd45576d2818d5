/** How rows of plans are judged. */
import { describe, expect, test } from 'vitest';
import { configOf } from './plan-config.js';
import { OUT_OF_MEMORY, type Measured } from './plan-row.js';
import { summary, type PlanRow } from './plan-summary.js';

describe('the summary', () => {
  const figures = { allocated: 100, reserved: 100, total: 110, context: 10, seconds: 1 };
  const row = (
    name: string,
    predicted: object,
    measured: Measured,
    more: object = {},
  ): PlanRow => ({
    ...{ name, config: configOf({ name, batch: [{ text: 40 }], ...more }), measured },
    predicted: { ...figures, busy: 1, fits: true, ...predicted },
  });

  test('counts what lay near enough, says whether that suffices, and names what did not', () => {
    const text = summary([
      row('a', { allocated: 102 }, figures),
      row('b', { allocated: 96, seconds: 1.3 }, figures),
      row('c', {}, { failed: 'the card fell off' }),
    ]);
    expect(text.split('\n')).toEqual([
      '3 configurations',
      'allocated: 1 of 2 within 3 % (all must be: missed), the farthest -4.0 % (b)',
      '  b: -4.0 %',
      'reserved: 2 of 2 within 5 % (95 % must be: met), the farthest +0.0 % (a)',
      'total: 2 of 2 within 5 %, the farthest +0.0 % (a)',
      'context: 2 of 2 within 10 %, the farthest +0.0 % (a)',
      'seconds: 1 of 2 within 10 % (90 % must be: missed), the farthest +30.0 % (b)',
      '  b: +30.0 %',
      'failed: c: the card fell off',
    ]);
  });

  test('holds verdicts against what went through, and tells those that were unsafe', () => {
    const limit = { limitGiB: 1 };
    const reserved = (share: number) => ({ reserved: share * 2 ** 30 });
    const text = summary([
      row('right', reserved(0.99), figures, limit),
      row('near', reserved(0.99), { failed: OUT_OF_MEMORY }, limit),
      row('far', reserved(0.9), { failed: OUT_OF_MEMORY }, limit),
      row('safe', { ...reserved(1.1), fits: false }, figures, limit),
    ]);
    const lines = text.split('\n');
    const from = lines.findIndex((line) => line.startsWith('verdicts'));
    expect(lines.slice(from)).toEqual([
      'verdicts: 1 of 4 right (95 % must be: missed), 1 that did not fit had more than 2 % left by plan (none may: missed)',
      '  near: was to fit, with 1 % of its limit left',
      '  far: was to fit, with 10 % of its limit left',
      '  safe: was not to fit, with -10 % of its limit left',
    ]);
  });

  test('tells groups apart by what they train, and on how many cards', () => {
    const nf4 = { set: { 'train.decoder': { lora: {}, base: 'nf4' } } };
    const text = summary([
      row('a', { allocated: 101 }, figures),
      row('b', { allocated: 95 }, figures, nf4),
      row('c', {}, figures, { ...nf4, ranks: 2 }),
      row('d', {}, { failed: OUT_OF_MEMORY }, { limitGiB: 1 }),
    ]);
    expect(text.split('\n').filter((line) => line.startsWith('['))).toEqual([
      '[full, bf16] rows 1, allocated 1 of 1 (+1.0 %), reserved 1 of 1 (+0.0 %), seconds 1 of 1 (+0.0 %)',
      '[lora, nf4, bf16] rows 1, allocated 0 of 1 (-5.0 %), reserved 1 of 1 (+0.0 %), seconds 1 of 1 (+0.0 %)',
      '[lora, nf4, bf16, 2 cards] rows 1, allocated 1 of 1 (+0.0 %), reserved 1 of 1 (+0.0 %), seconds 1 of 1 (+0.0 %)',
      '[full, bf16, limited] rows 1, verdicts 0 of 1',
    ]);
  });
});
