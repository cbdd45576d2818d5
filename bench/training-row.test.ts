import { expect, test } from 'vitest';
import { OutOfMemoryError } from '../src/base/errors.js';
import { memoryStats, setMemoryLimit } from '../src/torch/index.js';
import { type Case, readCases, samplesOf } from './cases.js';
import { CAPTIONS, MIX } from './lengths.js';
import { TINY as config } from './testing.js';
import {
  type Base,
  measureRow,
  type Mode,
  readBases,
  readModes,
  readPolicies,
  readStates,
  type RowOptions,
  type States,
} from './training-row.js';

const SMALL: Case = {
  ...{ name: 'small', shape: 'llama3', isText: false },
  updates: [
    [[{ text: 12, question: 2 }], [{ text: 9, question: 0 }]],
    [[{ text: 8, question: 1 }]],
  ],
};
const ALONE: Case = { ...SMALL, updates: SMALL.updates.map((update) => [update[0]!]) };

const row = (options: Pick<RowOptions, 'of' | 'mode'> & Partial<RowOptions>) =>
  measureRow({
    ...{ policy: 'keep', device: 'cpu', steps: 3, dropout: 0, config, say: () => undefined },
    ...options,
  });

test.each<[Mode, Case]>([
  ['lora', SMALL],
  ['projector', SMALL],
  ['full', { ...SMALL, isText: true }],
  ['full-ub', ALONE],
  ['full-fp32', ALONE],
  ['full-stochastic-ub', ALONE],
])('a row of %s trains, says what it saw, and leaves nothing', (mode, of) => {
  const said: string[] = [];
  expect(() => {
    const measured = row({ of, mode, say: (line) => said.push(line) });
    expect(measured).toMatchObject({ case: 'small', mode, policy: 'keep' });
    expect(measured.loss).toBeGreaterThan(5);
    expect(measured.samplesPerSecond).toBeGreaterThan(0);
  }).toLeakNothing();
  // A round of two updates that is not timed, then two for three steps.
  expect(said).toHaveLength(6);
});

test.each<[Mode, Base, States]>([
  ['lora', 'nf4', 'mode'],
  ['lora', 'nf4', 'int8'],
  ['lora', 'fp8', 'mode'],
  ['full-ub', 'bf16', 'int8'],
  ['full-fp32', 'bf16', 'bfloat16'],
  ['full-stochastic', 'bf16', 'bfloat16'],
])('a row of %s over %s with moments in %s likewise', (mode, base, states) => {
  expect(() => {
    const measured = row({ of: ALONE, mode, base, states });
    expect(measured).toMatchObject({ base, states: states === 'mode' ? 'float32' : states });
    expect(Math.abs(measured.loss - row({ of: ALONE, mode }).loss)).toBeLessThan(0.2);
  }).toLeakNothing();
});

test('what learns is not held in 4 bits', () => {
  expect(() => {
    expect(() => row({ of: ALONE, mode: 'full', base: 'nf4' })).toThrow(/nothing can learn/);
  }).toLeakNothing();
});

test('a row that fails leaves nothing either', () => {
  expect(() => {
    const empty = { ...SMALL, updates: [[[{ text: -4, question: 0 }]]] };
    expect(() => row({ of: empty, mode: 'lora' })).toThrow(/no tokens/);
    expect(() => row({ of: SMALL, mode: 'full-ub' })).toThrow(/several micro-batches/);
  }).toLeakNothing();
});

test('a row that runs out of memory on its way leaves nothing, and the next one runs', () => {
  expect(() => {
    const say = (): void => setMemoryLimit('cpu', memoryStats('cpu').allocated + 20_000);
    try {
      expect(() => row({ of: ALONE, mode: 'full', say })).toThrow(OutOfMemoryError);
    } finally {
      setMemoryLimit('cpu', null);
    }
    row({ of: ALONE, mode: 'full' });
  }).toLeakNothing();
});

const tokens = (batch: Case['updates'][number][number]): number =>
  batch.reduce((sum, { text }) => sum + text + 576, 0);

test('cases by name', () => {
  const [rows, text, one, vicuna] = readCases('2x4096,text-16x512,one-600,llava15');
  expect(rows!.updates.map((update) => update.map(tokens))).toEqual([[8192]]);
  expect(text).toMatchObject({ isText: true, shape: 'llama3' });
  expect(text!.updates[0]![0]).toHaveLength(16);
  expect(text!.updates[0]![0]![0]).toEqual({ text: 512, question: 0 });
  expect(one!.updates.map((update) => update.map(tokens))).toEqual([Array(16).fill(600)]);
  expect(vicuna).toMatchObject({ name: 'llava15-4x2048', shape: 'vicuna' });
  const [small, large] = readCases('stage1');
  expect(small!.updates).toHaveLength(12);
  expect(small!.updates[1]![0]!.map(({ text: each }) => each)).toEqual(CAPTIONS.slice(16, 32));
  expect(large!.updates.flat(2).map(({ text: each }) => each)).toEqual(CAPTIONS);
});

test.each(['mix', 'mix-64'])('%s packs every record once, within the budget', (name) => {
  const [mix] = readCases(name);
  const batches = mix!.updates.flat();
  expect(Math.max(...batches.map(tokens))).toBeLessThanOrEqual(8192);
  const ascending = (a: number, b: number): number => a - b;
  expect(
    batches
      .flat()
      .map(({ text }) => text)
      .toSorted(ascending),
  ).toEqual(MIX.toSorted(ascending));
  const least = Math.ceil(MIX.reduce((sum, text) => sum + text + 576, 0) / 8192);
  expect(batches.length).toBeLessThanOrEqual(least + (name === 'mix' ? 1 : 4));
});

test('the lengths are those that the peer draws', () => {
  expect([MIX.length, MIX.reduce((a, b) => a + b)]).toEqual([256, 122271]);
  expect([CAPTIONS.length, CAPTIONS.reduce((a, b) => a + b)]).toEqual([384, 19452]);
});

test('the first 600 labels of a row with a picture are ignored', () => {
  const [rows] = readCases('1x604');
  const image = { tokenId: 128257, tokens: 576, size: 1 };
  const [record] = samplesOf(rows!.updates[0]![0]!, { vocabSize: 128320, image });
  expect(Array.from(record!.labels).findIndex((label) => label !== -100)).toBe(600);
  expect(record!.labels).toHaveLength(604);
});

test.each(['4x', '4x600', 'text', 'one-580', 'stage1-33', 'mix-257', ''])(
  'there is no case "%s"',
  (name) => {
    expect(() => readCases(`4x2048,${name}`)).toThrow(`there is no case "${name}"`);
  },
);

test('there are no other modes and policies', () => {
  expect(readModes('lora,full-fp32-ub')).toEqual(['lora', 'full-fp32-ub']);
  expect(() => readModes('half')).toThrow('there is no mode "half"');
  expect(() => readPolicies('keep,most')).toThrow('there is no policy "most"');
  expect(() => readBases('nf4,fp4')).toThrow('there is no base "fp4"');
  expect(() => readStates('int4')).toThrow('there is no type of states "int4"');
});
