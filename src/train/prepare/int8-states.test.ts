import { expect, test } from 'vitest';
import { ghostLlava } from '../step/testing.js';
import type { ParameterGroup } from '../../optim/index.js';
import { notInt8, stateChoices } from './int8-states.js';

test('embeddings and small tensors keep fp32; the row counts codes and scales of the others', () => {
  const model = ghostLlava({ wide: true });
  const plain = notInt8(model);
  const parameters = model.namedParameters();
  for (const [name, { numel }] of parameters) {
    const stays = numel < 4096 || /embed_tokens|position_embedding/.test(name);
    expect(plain.has(name), name).toBe(stays);
  }
  const groups: ParameterGroup[] = [
    { name: 'all', parameters, notInt8: plain, learningRate: 1e-3 },
  ];
  expect(stateChoices(groups, { precision: { states: 'bfloat16' }, shares: 1 })).toEqual([]);
  const taken = [...parameters].flatMap(([name, { numel }]) => (plain.has(name) ? [] : [numel]));
  expect(taken.length).toBeGreaterThan(3);
  expect(taken.length).toBeLessThan(parameters.size);
  const saves = taken.reduce((sum, n) => sum + 8 * n - 2 * n - 8 * Math.ceil(n / 256), 0);
  for (const shares of [1, 4]) {
    const rows = stateChoices(groups, { precision: { states: 'int8' }, shares });
    expect(rows).toMatchObject([{ saves: saves / shares }]);
    expect(rows[0]!.choice).toMatch(/^Adam's moments of .* of .* parameters in 8 bits$/);
    expect(rows[0]!.costs).toMatch(/in place of/);
  }
  model.dispose();
});
