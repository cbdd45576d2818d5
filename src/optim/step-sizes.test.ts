import { afterEach, expect, test } from 'vitest';
import { fromTypedArray, noGrad, tensor, type DType, type Tensor } from '../torch/index.js';
import { AdamW, type AdamWOptions } from './adamw.js';
import { StepSizes } from './step-sizes.js';

const open: { dispose(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.dispose();
});

/** An optimizer of tensors with so many weights each, in two groups. */
function make(
  sizes: Record<'first' | 'second', Record<string, number>>,
  options: AdamWOptions = {},
  dtype: DType = 'float32',
) {
  const groups = Object.entries(sizes).map(([name, lengths]) => ({
    name,
    learningRate: name === 'first' ? 0.01 : 0.001,
    parameters: new Map(
      Object.entries(lengths).map(([each, length], k) => {
        const values = Float32Array.from({ length }, (_, i) => 0.5 + Math.cos(3 * i + k));
        return [each, noGrad(() => fromTypedArray(values).to(dtype)).keep()] as const;
      }),
    ),
  }));
  const optimizer = new AdamW(groups, options);
  open.push(optimizer, ...groups.flatMap(({ parameters }) => [...parameters.values()]));
  const steps = new StepSizes(optimizer);
  const update = (index: number, foundInf: number | null = null) => {
    const step = steps.before(index);
    const [divisor, flag] = [tensor(1), foundInf === null ? null : tensor(foundInf)];
    const gradients = new Map(
      groups.flatMap(({ parameters }) =>
        [...parameters].map(
          ([name, each]) => [name, noGrad(() => each.cos().to('float32'))] as const,
        ),
      ),
    );
    optimizer.update({ gradients, scheduleFactor: 1, divisor, foundInf: flag });
    return noGrad(() => step?.() ?? null);
  };
  return { update, weights: (name: string) => optimizer.weights(name) };
}

const values = (x: Tensor): number[] => Array.from(x.to('float32').toTypedArray() as Float32Array);
const norm = (list: readonly number[]): number => Math.hypot(...list);

test('the groups come in turn, of each another tensor every time, but none that begins at 0', () => {
  const { update } = make({
    first: { a: 4, 'a.bias': 4, b: 8 },
    second: { c: 2, 'x.lora_B.weight': 2 },
  });
  const seen = [0, 1, 2, 3, 4]
    .map((i) => update(i)!)
    .map(({ group, tensor: name }) => [group, name]);
  expect(seen).toEqual([
    ['first', 'a'],
    ['second', 'c'],
    ['first', 'b'],
    ['second', 'c'],
    ['first', 'a'],
  ]);
});

test.each<[string, AdamWOptions, DType]>([
  ['weights in fp32', {}, 'float32'],
  ['masters in fp32', { master: 'float32' }, 'bfloat16'],
  ['moments in 8 bits', { states: 'int8' }, 'float32'],
])('a step is what the update moved, by the norm of the weights, of %s', (_, options, dtype) => {
  const { update, weights } = make({ first: { a: 300 }, second: {} }, options, dtype);
  const before = values(weights('a'));
  const { ratio } = update(0)!;
  const after = values(weights('a'));
  const expected = norm(after.map((each, i) => each - before[i]!)) / norm(before);
  expect(expected).toBeGreaterThan(1e-3);
  expect(ratio.item()).toBeCloseTo(expected, 6);
});

test('of a large tensor a piece in the middle is looked at', () => {
  const { update, weights } = make({ first: { a: 200_001 }, second: {} });
  const before = values(weights('a'));
  const { ratio } = update(0)!;
  const [from, to] = [67232, 67232 + 65536];
  const was = before.slice(from, to);
  const moved = values(weights('a'))
    .slice(from, to)
    .map((each, i) => each - was[i]!);
  expect(ratio.item()).toBeCloseTo(norm(moved) / norm(was), 6);
});

test('an update that is left out moves nothing, and nothing is nothing to look at', () => {
  expect(
    make({ first: { a: 4 }, second: {} })
      .update(0, 1)!
      .ratio.item(),
  ).toBe(0);
  expect(make({ first: { 'a.bias': 4 }, second: {} }).update(0)).toBeNull();
});
