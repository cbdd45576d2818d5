import { expect, test } from 'vitest';
import { locateInScript } from './script-lines.js';

const SOURCE = `import { defineRecipe } from 'patina';
// optimizer: { learningRate: 1 },
const text = { template: 'a, name: b' };
export default defineRecipe({
  name: 'name: x',
  /* batchSize: 3, */
  batchSize: 2,
  text,
  validation: {
    limit: 1,
    everyUpdates: 10,
  },
  data: { sources: [{ path: 'a', 'limit': 4 }, { path: 'b' }],
    workers: 0 },
  'optimizer': {
    learningRate: 2e-4 },
});
`;

test.each([
  [['batchSize'], ':7'],
  [['optimizer', 'learningRate'], ':16'],
  [['optimizer', 'betas'], ':15'],
  [['name'], ':5'],
  [['text'], ':8'],
  [['validation', 'everyUpdates'], ':11'],
  // Two of this name: that of the section.
  [['validation', 'limit'], ':10'],
  [['data', 'workers'], ':14'],
  // Two in the section: the section.
  [['data', 'sources', 1, 'path'], ':13'],
  [['schedule', 'epochs'], ''],
  [[], ''],
])('%j is in line %s', (path, line) => {
  expect(locateInScript(SOURCE, 'a.ts', path)).toBe(`a.ts${line}`);
});
