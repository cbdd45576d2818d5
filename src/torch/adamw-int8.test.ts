/** AdamW with moments in 8 bits: against bitsandbytes' (test/fixtures/int8-adam), and its kernels against the composite. */

import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import { operators } from './generate/testing.js';
import {
  adamwInt8_,
  cudaAvailable,
  empty,
  noGrad,
  randn,
  scope,
  tensor,
  zeros,
  type Device,
  type DType,
  type Tensor,
} from './index.js';
import { expectSame, tensorsOf } from './testing-file.js';

const BLOCK = 256;
const SETTINGS = { lr: 1e-2, beta1: 0.9, beta2: 0.999, weightDecay: 0.1, eps: 1e-8 };
const number = (value: number): Tensor => tensor(value, { dtype: 'float32' });
const { adamwInt8Composite_ } = operators({ operator: 'patina::adamw_int8_composite_' }) as {
  adamwInt8Composite_: typeof adamwInt8_;
};
const fixture = tensorsOf(
  join(packageRoot(), 'test', 'fixtures', 'int8-adam', 'int8_adam.safetensors'),
);
const numbersOf = (x: Tensor): number[] => x.reshape([-1]).toArray() as number[];

/** What an update reads and writes, of several tensors. */
interface States {
  self: Tensor[];
  averages: Tensor[];
  averageScales: Tensor[];
  squares: Tensor[];
  squareScales: Tensor[];
  rounded: Tensor[];
  steps: Tensor[];
}

type Update = Partial<Parameters<typeof adamwInt8_>[8]>;

function step(run: typeof adamwInt8_, s: States, gradients: Tensor[], more: Update = {}): void {
  const moments = [s.averages, s.averageScales, s.squares, s.squareScales] as const;
  run(s.self, gradients, ...moments, s.rounded, s.steps, { ...SETTINGS, ...more });
}

/** Of very different sizes. */
const spread = (length: number): Tensor =>
  randn([length]).mul(randn([length]).square().square().square());

/** States of moments as updates leave them. */
function statesOf(lengths: readonly number[], type: DType, rounded: DType | null): States {
  const each = (of: (length: number) => Tensor): Tensor[] => lengths.map(of);
  const averages = lengths.map((length) => spread(length).mul(1e-4).dynamicQuantise(true));
  const squares = lengths.map((length) => spread(length).square().dynamicQuantise(false));
  const self = each((length) => randn([length]).to(type));
  return {
    self,
    averages: averages.map(([codes]) => codes),
    averageScales: averages.map(([, scales]) => scales),
    squares: squares.map(([codes]) => codes),
    squareScales: squares.map(([, scales]) => scales),
    rounded: rounded === null ? self : self.map((x) => x.to(rounded)),
    steps: each(() => number(4)),
  };
}

function copyOf(s: States, device: Device = 'cpu'): States {
  const copies = (list: Tensor[]): Tensor[] => list.map((x) => x.clone().to(device));
  const self = copies(s.self);
  return {
    ...{ self, averages: copies(s.averages), averageScales: copies(s.averageScales) },
    ...{ squares: copies(s.squares), squareScales: copies(s.squareScales) },
    ...{ rounded: s.rounded === s.self ? self : copies(s.rounded), steps: copies(s.steps) },
  };
}

const CODED = ['averages', 'averageScales', 'squares', 'squareScales'] as const;

/** Codes and scales to the bit, weights as far as the last places of their change go. */
function expectEqual(actual: States, expected: States, before: States): void {
  for (const key of CODED)
    actual[key].forEach((x, i) => expectSame(x.to('cpu'), expected[key][i]!, `${key} of ${i}`));
  for (const key of ['self', 'rounded'] as const)
    actual[key].forEach((x, i) => {
      const unit = { float32: 2 ** -23, bfloat16: 2 ** -7, float16: 2 ** -10 }[
        x.dtype as 'float32'
      ];
      if (x.numel === 0) return;
      const [a, b, c] = [x.to('cpu'), expected[key][i]!, before[key][i]!].map((each) =>
        each.to('float32'),
      ) as [Tensor, Tensor, Tensor];
      const most = b
        .abs()
        .mul(unit)
        .add(2 ** -24)
        .add(b.sub(c).abs().mul(1e-5));
      expect(a.sub(b).abs().sub(most).max().item(), `${key} of ${i}`).toBeLessThanOrEqual(0);
    });
}

describe('as bitsandbytes has it', () => {
  test.each(['signed', 'unsigned'])('the dynamic type, %s: codes, scales, values', (kind) => {
    scope(() => {
      const signed = kind === 'signed';
      const codes = tensor([...new Array(256).keys()], { dtype: 'uint8' });
      expectSame(codes.dynamicDequantise(number(1).reshape([1]), signed), fixture(kind));
      const x = signed ? fixture('quantise.x') : fixture('quantise.x').abs();
      const [made, absmax] = x.dynamicQuantise(signed);
      expectSame(absmax, fixture(`quantise.${kind}.absmax`));
      const theirs = fixture(`quantise.${kind}.codes`);
      const back = made.dynamicDequantise(absmax, signed);
      const [values, other] = [numbersOf(back), numbersOf(fixture(`quantise.${kind}.back`))];
      const [own, given] = [numbersOf(made), numbersOf(theirs)];
      const scales = numbersOf(absmax);
      numbersOf(x).forEach((value, i) => {
        // What is not 0 does not become 0 without a sign, which is ours alone.
        if (!signed && value > 0 && given[i] === 0) {
          expect(own[i]).toBe(1);
          return;
        }
        if (own[i] === given[i]) {
          expect(values[i]).toBe(other[i]);
          return;
        }
        // They divide and take the smaller distance: of two as near in fp32 either one.
        const [a, b] = [values[i]!, other[i]!].map((each) => Math.abs(each - value));
        expect(Math.abs(a! - b!)).toBeLessThan(3e-7 * scales[Math.floor(i / BLOCK)]!);
      });
      const differing = own.filter((code, i) => code !== given[i]).length;
      expect(differing).toBeLessThan(signed ? 3 : 100);
    });
  });

  test.each([
    ['the kernel', adamwInt8_],
    ['the composite', adamwInt8Composite_],
  ])('three updates by %s', (_name, run) => {
    noGrad(() =>
      scope(() => {
        for (let update = 1; update <= 3; update++) {
          const read = (name: string): Tensor => fixture(`${update - 1}.${name}`);
          const self = [read('p')];
          const s: States = {
            ...{ self, rounded: self, steps: [number(update)] },
            averages: [read('exp_avg')],
            averageScales: [read('exp_avg.absmax')],
            squares: [read('exp_avg_sq')],
            squareScales: [read('exp_avg_sq.absmax')],
          };
          step(run, s, [fixture(`${update}.g`)]);
          const expected = (name: string): number[] => numbersOf(fixture(`${update}.${name}`));
          const near = (x: Tensor, name: string, most: number): void => {
            const other = expected(name);
            const apart = numbersOf(x).map(
              (value, i) => Math.abs(value - other[i]!) / Math.max(1e-3, Math.abs(other[i]!)),
            );
            expect(Math.max(...apart), name).toBeLessThanOrEqual(most);
          };
          near(s.self[0]!, 'p', 1e-6);
          near(s.averageScales[0]!, 'exp_avg.absmax', 1e-6);
          near(s.squareScales[0]!, 'exp_avg_sq.absmax', 1e-6);
          for (const [codes, name] of [
            [s.averages[0]!, 'exp_avg'],
            [s.squares[0]!, 'exp_avg_sq'],
          ] as const) {
            const theirs = expected(name);
            const apart = numbersOf(codes).map((code, i) => Math.abs(code - theirs[i]!));
            // Where rounding decides between two codes.
            expect(Math.max(...apart), name).toBeLessThanOrEqual(1);
            const differing = apart.filter((d, i) => d > 0 && theirs[i] !== 0).length;
            expect(differing, name).toBeLessThan(4);
          }
        }
      }),
    );
  });
});

test.each([
  ['float32', null, 'float32'],
  ['float32', 'bfloat16', 'bfloat16'],
  ['float32', 'float16', 'float16'],
  ['bfloat16', null, 'float32'],
] as const)(
  'the kernel is the composite: weights in %s, rounded to %s, gradients in %s',
  (type, rounded, gradientType) => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 1100 }), { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        fc.option(fc.double({ min: 0.5, max: 1000, noNaN: true })),
        (lengths, atRandom, divisor) =>
          noGrad(() =>
            scope(() => {
              const own = statesOf(lengths, type, rounded);
              const [before, theirs] = [copyOf(own), copyOf(own)];
              const gradients = lengths.map((n) => spread(n).mul(1e-3).to(gradientType));
              const keys =
                atRandom && type === 'bfloat16' ? lengths.flatMap((_, i) => [i + 1, i + 7]) : [];
              const more = {
                // Moments are not of one run here: no change is to leave what fp16 holds.
                ...{ keys, first: lengths.map((_, i) => i * BLOCK), eps: 1e-3 },
                gradScale: divisor === null ? null : number(divisor),
              };
              step(adamwInt8_, own, gradients, more);
              step(adamwInt8Composite_, theirs, gradients, more);
              expectEqual(own, theirs, before);
              own.rounded.forEach((x, i) => expectSame(x, own.self[i]!.to(x.dtype)));
              const kept = copyOf(own);
              step(adamwInt8_, own, gradients, { ...more, foundInf: number(1) });
              for (const key of [...CODED, 'self'] as const)
                own[key].forEach((x, i) => expectSame(x, kept[key][i]!, 'gated'));
            }),
          ),
      ),
      { numRuns: 25 },
    );
  },
);

test('pieces that are cut between blocks are updated as the whole, however many threads share it out', () => {
  noGrad(() =>
    scope(() => {
      const length = 300 * BLOCK + 17;
      for (const [type, keys] of [
        ['float32', []],
        ['bfloat16', [3, 4]],
      ] as const) {
        const whole = statesOf([length], type, null);
        const cut = copyOf(whole);
        const gradient = randn([length]);
        step(adamwInt8_, whole, [gradient], { keys });
        const edges = [0, BLOCK, 128 * BLOCK, 299 * BLOCK, length];
        const pieces = (scale: number) => (list: Tensor[]) =>
          edges
            .slice(1)
            .map((end, i) =>
              list[0]!.narrow(0, edges[i]! / scale, Math.ceil(end / scale) - edges[i]! / scale),
            );
        const [values, scales] = [pieces(1), pieces(BLOCK)];
        const self = values(cut.self);
        const parts: States = {
          ...{ self, rounded: self, steps: self.map(() => number(4)) },
          ...{ averages: values(cut.averages), averageScales: scales(cut.averageScales) },
          ...{ squares: values(cut.squares), squareScales: scales(cut.squareScales) },
        };
        step(adamwInt8_, parts, values([gradient]), {
          first: edges.slice(0, -1),
          keys: self.flatMap(() => keys),
        });
        for (const key of [...CODED, 'self'] as const)
          expectSame(cut[key][0]!, whole[key][0]!, key);
      }
    }),
  );
});

test('nothing but zeros, or what is too small for a scale, stays 0', () => {
  noGrad(() =>
    scope(() => {
      const [tiny, none] = [tensor(new Array<number>(300).fill(1e-41)), zeros([300])];
      for (const gradient of [tiny, none]) {
        const self = [zeros([300])];
        const s: States = {
          ...{ self, rounded: self, steps: [number(1)] },
          ...{ averages: [zeros([300], { dtype: 'uint8' })], averageScales: [zeros([2])] },
          ...{ squares: [zeros([300], { dtype: 'uint8' })], squareScales: [zeros([2])] },
        };
        step(adamwInt8_, s, [gradient]);
        expect([numbersOf(s.averageScales[0]!), numbersOf(s.squareScales[0]!)]).toEqual([
          [0, 0],
          [0, 0],
        ]);
        expect(numbersOf(s.self[0]!).every((w) => Math.abs(w) < 1e-30)).toBe(true);
      }
    }),
  );
});

describe('is refused:', () => {
  const bad: Readonly<Record<string, [RegExp, (s: States) => unknown]>> = {
    'codes in another type': [/no codes in Float/, (s) => void (s.averages[0] = zeros([300]))],
    'scales of fewer blocks': [
      /takes 2 scales for 300 weights/,
      (s) => void (s.squareScales[0] = zeros([1])),
    ],
    'weights in fp64': [/no weights in Double/, (s) => void (s.self[0] = s.self[0]!.to('float64'))],
    'lists of other lengths': [/lists of one length/, (s) => void s.steps.push(number(1))],
    'codes that do not lie densely': [
      /dense in memory/,
      (s) => void (s.averages[0] = zeros([600], { dtype: 'uint8' }).slice(0, 0, 600, 2)),
    ],
    'a piece that begins within a block': [
      /multiples of 256, not at 100/,
      () => ({ first: [100] }),
    ],
    'half a key': [/two words of a key/, () => ({ keys: [1] })],
    'fp32 rounded at random': [/rounds bfloat16 at random/, () => ({ keys: [1, 2] })],
  };
  test.each(Object.entries(bad))('%s', (_name, [message, spoil]) => {
    noGrad(() =>
      scope(() => {
        const s = statesOf([300], 'float32', 'float16');
        const more = (spoil(s) ?? {}) as Update;
        expect(() => step(adamwInt8_, s, [randn([300])], more)).toThrow(message);
      }),
    );
  });

  test('conversions of other types, and scales that do not belong to the codes', () => {
    scope(() => {
      expect(() => zeros([3], { dtype: 'float64' }).dynamicQuantise(true)).toThrow(/takes float32/);
      const codes = zeros([300], { dtype: 'uint8' });
      expect(() => codes.dynamicDequantise(zeros([1]), true)).toThrow(/have 2 scales/);
    });
  });
});

describe.runIf(cudaAvailable())('on a GPU', () => {
  test.each([
    ['float32', 'bfloat16', 'float32', false],
    ['float32', null, 'float32', false],
    ['float32', 'float16', 'float16', false],
    ['bfloat16', null, 'bfloat16', false],
    ['bfloat16', null, 'float32', true],
  ] as const)(
    'weights in %s, rounded to %s, gradients in %s, at random: %s: what the CPU gives, codes to the bit',
    (type, rounded, gradientType, random) => {
      noGrad(() =>
        scope(() => {
          const device = 'cuda:0';
          // More tensors than one launch takes, 36, and some of the first that begin where packs cannot be moved.
          const lengths = Array.from(
            { length: 60 },
            (_, i) => [1, 256, 8, 40_000, 300][i % 5]! + i,
          );
          const own = statesOf(lengths, type, rounded);
          const before = copyOf(own);
          const gradients = lengths.map((n) => randn([n]).to(gradientType));
          const there = copyOf(own, device);
          there.self.forEach((x, i) => {
            if (i >= 36 || x.numel % 3 !== 0) return;
            there.self[i] = empty([x.numel + 1], { dtype: x.dtype, device })
              .narrow(0, 1, x.numel)
              .copy_(x);
          });
          if (rounded === null) there.rounded = there.self;
          const on = gradients.map((x) => x.to(device));
          const keys = random ? lengths.flatMap((_, i) => [i + 1, i + 7]) : [];
          const more = (place: Device, found: number): Update => ({
            ...{ keys, gradScale: number(2).to(place), foundInf: number(found).to(place) },
          });
          step(adamwInt8_, there, on, more(device, 1));
          expectEqual(there, before, before);
          step(adamwInt8_, there, on, more(device, 0));
          step(adamwInt8_, own, gradients, more('cpu', 0));
          expectEqual(there, own, before);
        }),
      );
    },
  );
});
