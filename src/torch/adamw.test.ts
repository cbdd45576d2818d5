/** Our AdamW against libtorch's fused one and a copy; its kernel for CUDA against the composite. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cases } from '../base/testing.js';
import { operators } from './generate/testing.js';
import {
  _fusedAdamw_,
  adamw_,
  cudaAvailable,
  empty,
  inBackground,
  noGrad,
  randn,
  scope,
  tensor,
  type DType,
  type Tensor,
} from './index.js';

const TYPES = ['float32', 'bfloat16', 'float16'] as const;
const SETTINGS = { lr: 1e-2, beta1: 0.9, beta2: 0.999, weightDecay: 0.1, eps: 1e-8 };
const number = (value: number): Tensor => tensor(value, { dtype: 'float32' });

/** Weights, moments and a step count, in fresh memory for each taker. */
function statesOf(lengths: readonly number[]) {
  const each = (of: (length: number) => Tensor): Tensor[] => lengths.map(of);
  return {
    self: each((n) => randn([n])),
    averages: each((n) => randn([n]).mul(0.1)),
    squares: each((n) => randn([n]).square().mul(0.01)),
    steps: each(() => number(0)),
  };
}

type States = ReturnType<typeof statesOf>;

const copyOf = ({ self, averages, squares, steps }: States): States => ({
  self: self.map((x) => x.clone()),
  averages: averages.map((x) => x.clone()),
  squares: squares.map((x) => x.clone()),
  steps: steps.map((x) => x.clone()),
});

/** Largest distance in units of the last place: bit patterns of floats of one sign are in order. */
function distance(a: Tensor, b: Tensor): number {
  const [x, y] = [a, b].map((each) => {
    const bits = each.viewAs(each.dtype === 'float32' ? 'int32' : 'int16').to('float64');
    return bits.toArray() as number[];
  });
  return x!.reduce((most, value, i) => Math.max(most, Math.abs(value - y![i]!)), 0);
}

test('equals libtorch within the last place, whatever lengths, types, decay and steps, and leaves gradients as they are', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 4 }),
      fc.constantFrom(...TYPES),
      fc.constantFrom(...TYPES),
      fc.constantFrom(0, 0.1),
      fc.constantFrom(0.3, 0.9),
      fc.option(fc.double({ min: 0.5, max: 1000, noNaN: true })),
      (lengths, gradientType, type, weightDecay, beta1, divisor) =>
        noGrad(() =>
          scope(() => {
            const own = statesOf(lengths);
            const theirs = copyOf(own);
            const rounded = type === 'float32' ? own.self : own.self.map((x) => x.to(type));
            for (let step = 1; step <= 3; step++) {
              // What rounds differently by the last place would be farther apart after another step.
              for (const key of ['self', 'averages', 'squares', 'steps'] as const)
                theirs[key].forEach((x, i) => x.copy_(own[key][i]!));
              for (const x of [...own.steps, ...theirs.steps]) x.add_(1);
              const gradients = lengths.map((n) => randn([n]).to(gradientType));
              const before = gradients.map((x) => x.clone());
              const settings = {
                ...{ ...SETTINGS, weightDecay, beta1 },
                gradScale: divisor === null ? null : number(divisor),
              };
              const { self, averages, squares, steps } = own;
              adamw_(self, gradients, averages, squares, rounded, steps, settings);
              gradients.forEach((x, i) => expect(distance(x, before[i]!)).toBe(0));
              _fusedAdamw_(
                theirs.self,
                gradients.map((x) => x.to('float32').clone()),
                theirs.averages,
                theirs.squares,
                [],
                theirs.steps,
                { ...settings, amsgrad: false, maximize: false },
              );
              for (const key of ['averages', 'squares'] as const)
                own[key].forEach((x, i) => expect(distance(x, theirs[key][i]!)).toBeLessThan(2));
              own.self.forEach((x, i) => {
                expect(x.sub(theirs.self[i]!).abs().amax([]).item()).toBeLessThan(2 ** -20);
                expect(distance(rounded[i]!, x.to(type))).toBe(0);
              });
            }
          }),
        ),
    ),
    { numRuns: cases(60) },
  );
});

test('is the same to the bit however many threads share a tensor out, and is what libtorch gives where vectors end evenly', () => {
  noGrad(() =>
    scope(() => {
      const length = 3 * 32768 + 16;
      const whole = statesOf([length]);
      const [pieces, theirs] = [copyOf(whole), copyOf(whole)];
      const gradient = randn([length]);
      const cuts = [0, 5, 40_000, 98_299, length];
      const cut = ([x]: Tensor[]): Tensor[] =>
        cuts.slice(1).map((end, i) => x!.narrow(0, cuts[i]!, end - cuts[i]!));
      const run = ({ self, averages, squares, steps }: States, of: (x: Tensor[]) => Tensor[]) => {
        const w = of(self);
        const counts = w.map(() => steps[0]!);
        for (const x of steps) x.add_(1);
        adamw_(w, of([gradient]), of(averages), of(squares), w, counts, SETTINGS);
      };
      run(whole, (x) => x);
      run(pieces, cut);
      const { self, averages, squares, steps } = theirs;
      for (const x of steps) x.add_(1);
      _fusedAdamw_(self, [gradient.clone()], averages, squares, [], steps, {
        ...{ ...SETTINGS, amsgrad: false, maximize: false },
      });
      for (const key of ['self', 'averages', 'squares'] as const) {
        expect(distance(pieces[key][0]!, whole[key][0]!)).toBe(0);
        expect(distance(theirs[key][0]!, whole[key][0]!)).toBe(0);
      }
    }),
  );
});

test('what is not finite goes through, as it does there, and rounds to what it is', () => {
  noGrad(() =>
    scope(() => {
      const { self, averages, squares } = statesOf([20]);
      const gradient = tensor([NaN, Infinity, ...new Array<number>(18).fill(1)]);
      for (const type of ['bfloat16', 'float16'] as const) {
        const [w, rounded] = [self[0]!.clone(), empty([20], { dtype: type })];
        const moments = [averages, squares].map(([x]) => [x!.clone()]);
        adamw_([w], [gradient], moments[0]!, moments[1]!, [rounded], [number(1)], SETTINGS);
        const values = rounded.toArray() as number[];
        expect(values.slice(0, 2)).toEqual([NaN, NaN]);
        expect(values.slice(2).every(Number.isFinite)).toBe(true);
      }
    }),
  );
});

test('a flag leaves all as it is; in the background it is read when the update comes', async () => {
  const { self, averages, squares, steps } = noGrad(() => statesOf([9]));
  const [gradient, flag] = [randn([9]), number(1)];
  const run = () =>
    adamw_(self, [gradient], averages, squares, self, steps, { ...SETTINGS, foundInf: flag });
  steps[0]!.add_(1);
  const before = self[0]!.clone();
  run();
  expect(distance(self[0]!, before)).toBe(0);
  await inBackground(() => {
    flag.zero_();
    run();
  });
  expect(distance(self[0]!, before)).toBeGreaterThan(0);
  for (const x of [...self, ...averages, ...squares, ...steps, gradient, flag, before]) x.dispose();
});

describe('refuses', () => {
  const given = (dtype: DType = 'float32', shape: readonly number[] = [4]): Tensor[] => [
    empty(shape, { dtype }),
  ];
  const steps = (): Tensor[] => [number(1)];
  const cases: Record<string, () => void> = {
    'takes no weights in Double': () => {
      const w = given('float64');
      adamw_(w, given(), given(), given(), w, steps(), SETTINGS);
    },
    'takes no averages in BFloat16': () =>
      adamw_(given(), given(), given('bfloat16'), given(), given('bfloat16'), steps(), SETTINGS),
    'takes no gradients in Long': () =>
      adamw_(given(), given('int64'), given(), given(), given('bfloat16'), steps(), SETTINGS),
    'takes no rounded weights in Float': () =>
      adamw_(given(), given(), given(), given(), given(), steps(), SETTINGS),
    'that lie as 4 weights do, not [5]': () =>
      adamw_(given(), given('float32', [5]), given(), given(), given('float16'), steps(), SETTINGS),
    'with strides [1, 2]': () => {
      const gradients = [empty([2, 2]).transpose(0, 1)];
      adamw_(given(), gradients, given(), given(), given('float16'), steps(), SETTINGS);
    },
    'lists of one length, not of 1 and 0': () =>
      adamw_(given(), given(), given(), given(), [], steps(), SETTINGS),
    'a step count as one number': () =>
      adamw_(given(), given(), given(), given(), given('float16'), given(), SETTINGS),
    'stays on one device, not cpu and meta': () => {
      const gradients = [empty([4], { device: 'meta' })];
      adamw_(given(), gradients, given(), given(), given('float16'), steps(), SETTINGS);
    },
  };
  test.each(Object.entries(cases))('%s', (message, run) => {
    scope(() => expect(run).toThrow(message));
  });
});

describe.runIf(cudaAvailable())('on a GPU', () => {
  const { adamwComposite_ } = operators({ operator: 'patina::adamw_composite_' }) as {
    adamwComposite_: typeof adamw_;
  };

  test.each([
    ['float32', 'float32', 'bfloat16', 'bfloat16'],
    ['float32', 'float32', 'float32', 'float32'],
    ['bfloat16', 'bfloat16', 'bfloat16', null],
    ['float16', 'float32', 'float32', null],
    ['float32', 'bfloat16', 'bfloat16', 'float16'],
  ] as const)(
    'weights in %s, moments in %s, gradients in %s, rounded to %s: what the composite gives',
    (weightType, momentType, gradientType, roundedType) => {
      scope(() => {
        const device = 'cuda:0';
        // More tensors than one launch takes, and some that begin where packs cannot be moved.
        const lengths = Array.from({ length: 60 }, (_, i) => [1, 7, 8, 20_000, 300][i % 5]! + i);
        const states = statesOf(lengths);
        const gradients = lengths.map((n) => randn([n]).to(gradientType).to(device));
        const make = () => {
          const on = (x: Tensor, dtype: DType): Tensor => {
            const wide = empty([x.numel + 1], { dtype, device });
            return x.numel % 3 === 0 ? wide.narrow(0, 1, x.numel).copy_(x) : x.to(dtype).to(device);
          };
          const self = states.self.map((x) => on(x, weightType));
          return {
            self,
            averages: states.averages.map((x) => on(x, momentType)),
            squares: states.squares.map((x) => on(x, momentType)),
            rounded: roundedType === null ? self : self.map((x) => x.to(roundedType)),
            steps: states.steps.map((x) => x.add(3).to(device)),
          };
        };
        const run = (step: typeof adamw_, foundInf: number) => {
          const s = make();
          const options = {
            ...SETTINGS,
            gradScale: number(2).to(device),
            foundInf: number(foundInf).to(device),
          };
          step(s.self, gradients, s.averages, s.squares, s.rounded, s.steps, options);
          return [...s.self, ...s.averages, ...s.squares, ...s.rounded].map((x) => x.to('cpu'));
        };
        const expected = noGrad(() => run(adamwComposite_, 0));
        const before = noGrad(() => run(adamw_, 1));
        noGrad(() => run(adamw_, 0)).forEach((actual, i) => {
          const error = actual.to('float64').sub(expected[i]!.to('float64')).abs().max().item();
          const size = expected[i]!.to('float64').abs().max().item();
          const unit = { float32: 1e-6, bfloat16: 8e-3, float16: 1e-3 }[actual.dtype as 'float32'];
          const change = expected[i]!.to('float64')
            .sub(before[i]!.to('float64'))
            .abs()
            .max()
            .item();
          // Libtorch takes powers of beta2 in fp32 there, which leaves 1 - beta2^t to 1e-5 in the first steps.
          expect(error, `tensor ${i}`).toBeLessThanOrEqual(unit * size + 3e-5 * change);
        });
        const all = make();
        [...all.self, ...all.averages, ...all.squares, ...all.rounded].forEach((x, i) => {
          expect(before[i]!.toBytes(), `tensor ${i}, where nothing is to change`).toEqual(
            x.to('cpu').toBytes(),
          );
        });
      });
    },
  );
});
