import { expect, test } from 'vitest';
import type { StartEvent } from '../../train/index.js';
import { eventLines, figures } from './event-lines.js';

test.each([
  [0, '0.000'],
  [0.00012345, '1.23e-4'],
  [0.0012345, '0.00123'],
  [1.23456, '1.235'],
  [123.456, '123.5'],
  [9999.4, '9999'],
  [9999.6, '1.00e+4'],
  [12_345.678, '1.23e+4'],
  [NaN, 'NaN'],
])('figures(%d) is %s', (value, text) => expect(figures(value)).toBe(text));

test.each([
  [100, 1, '100 epochs'],
  [1200, 1, '1200 epochs'],
  [15, 10, '1.5 epochs'],
  [1, 3, '0.333 epochs'],
])('%d updates of which %d make an epoch are %s', (planned, perEpoch, epochs) => {
  const event: StartEvent = {
    type: 'start',
    recipe: 'mine',
    run: null,
    resumedFrom: 0,
    device: 'CPU',
    statements: [],
    table: [],
    choices: [],
    parameters: { trained: 1, total: 2 },
    data: { sources: [], recordsPerEpoch: 1, validationRecords: 0 },
    updates: { planned, perEpoch, warmup: 0, epochs: planned / perEpoch },
  };
  expect(eventLines(event).join('\n')).toContain(`(${epochs})`);
});
