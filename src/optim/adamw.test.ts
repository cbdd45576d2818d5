import { expect, test } from 'vitest';
import {
  empty,
  full,
  liveTensors,
  memoryStats,
  randn,
  resetPeak,
  scope,
  tensor,
  zeros,
  type CounterKey,
  type Tensor,
} from '../torch/index.js';
import { AdamW, type AdamWOptions, type AdamWUpdate } from './adamw.js';

const scalar = (value: number): Tensor => full([], value, { dtype: 'float32' });

/** The formula of AdamW for one number, in double precision. */
function reference(
  weight: number,
  gradients: readonly number[],
  rate: number,
  decay: number,
): number {
  let [w, m, v] = [weight, 0, 0];
  gradients.forEach((g, i) => {
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    w *= 1 - rate * decay;
    w -= (rate * (m / (1 - 0.9 ** (i + 1)))) / (Math.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8);
  });
  return w;
}

function optimizerOf(parameter: Tensor, options: AdamWOptions = {}): AdamW {
  const group = {
    name: 'all',
    parameters: new Map([['w', parameter]]),
    learningRate: 0.1,
    weightDecay: 0.5,
  };
  return new AdamW([group], options);
}

/** A key for each update and name. */
const roundingOf =
  (update: number) =>
  (name: string): CounterKey => [update, Buffer.from(`${name}    `).readUInt32LE()];

const update = (gradient: Tensor, more: Partial<AdamWUpdate> = {}): AdamWUpdate => ({
  gradients: new Map([['w', gradient]]),
  scheduleFactor: 1,
  divisor: scalar(1),
  foundInf: scalar(0),
  ...more,
});

test('follows the formula, with decay, the schedule and the divisor', () => {
  scope(() => {
    const w = tensor([1, -2, 3]);
    const optimizer = optimizerOf(w);
    const gradients = [0.5, -0.25, 2, 1e-3];
    for (const g of gradients) {
      optimizer.update(
        update(full([3], g * 8, { dtype: 'float32' }), { scheduleFactor: 0.5, divisor: scalar(8) }),
      );
    }
    const expected = [1, -2, 3].map((start) => reference(start, gradients, 0.05, 0.5));
    Array.from(w.toTypedArray() as Float32Array).forEach((value, i) =>
      expect(value).toBeCloseTo(expected[i]!, 6),
    );
    optimizer.dispose();
  });
});

test('a non-finite update leaves weights, moments and step count as they are, to the bit', () => {
  scope(() => {
    const w = tensor([1, -2, 3]);
    const optimizer = optimizerOf(w);
    optimizer.update(update(tensor([1, 2, 3])));
    const read = () =>
      [w, ...optimizer.state().values()].map((t) => Buffer.from(t.toBytes()).toString('hex'));
    const before = read();
    optimizer.update(update(tensor([NaN, Infinity, 1]), { foundInf: scalar(1) }));
    expect(read()).toEqual(before);
    optimizer.dispose();
  });
});

test('a parameter without a gradient is left alone: no decay, no step', () => {
  scope(() => {
    const w = tensor([1, 2]);
    const optimizer = optimizerOf(w);
    optimizer.update(update(tensor([1, 1]), { gradients: new Map() }));
    expect(w.toArray()).toEqual([1, 2]);
    expect(optimizer.state().get('w.step')!.item()).toBe(0);
    optimizer.dispose();
  });
});

test('a bf16 parameter follows its fp32 master copy', () => {
  scope(() => {
    const w = tensor([1, 1], { dtype: 'bfloat16' });
    const optimizer = optimizerOf(w);
    // Each step is far below the spacing of bf16 at 1 (1/128), yet the master moves.
    const group = optimizer.groups[0]!;
    for (let i = 0; i < 64; i++)
      optimizer.update(update(tensor([1, 1]), { scheduleFactor: 1e-3 / group.learningRate }));
    const master = optimizer.state().get('w.master')!;
    expect(master.dtype).toBe('float32');
    expect((master.toArray() as number[])[0]).toBeLessThan(0.95);
    expect(w.toArray()).toEqual(master.to('bfloat16').toArray());
    optimizer.dispose();
  });
});

test('masters begin anew from parameters that were set', () => {
  scope(() => {
    const w = tensor([1, 1], { dtype: 'bfloat16' });
    const optimizer = optimizerOf(w);
    w.fill_(0.25);
    optimizer.parametersRead();
    expect(optimizer.state().get('w.master')!.toArray()).toEqual([0.25, 0.25]);
    optimizer.dispose();
  });
});

test.each(['float32', 'bfloat16'] as const)(
  'a gradient in bf16 counts as the same values in fp32 do, for parameters in %s',
  (dtype) => {
    scope(() => {
      const gradient = randn([37]).to('bfloat16');
      const [a, b] = [gradient, gradient.to('float32')].map((each) => {
        const w = full([37], 0.5, { dtype });
        const optimizer = optimizerOf(w);
        optimizer.update(update(each, { divisor: scalar(3) }));
        const values = [w, ...optimizer.state().values()].map((x) => x.toArray());
        optimizer.dispose();
        return values;
      });
      expect(a).toEqual(b);
    });
  },
);

test('stochastic rounding keeps small updates on average, plain bf16 loses them', () => {
  scope(() => {
    const run = (master: 'stochastic' | 'none') => {
      const w = full([4096], 1, { dtype: 'bfloat16' });
      const optimizer = optimizerOf(w, { master, states: 'bfloat16' });
      const gradient = full([4096], 1, { dtype: 'float32' });
      for (let i = 0; i < 40; i++) {
        const rounding = roundingOf(i);
        optimizer.update(update(gradient.clone(), { scheduleFactor: 1e-2, rounding }));
      }
      optimizer.dispose();
      return w.mean(null, false, { dtype: 'float32' }).item();
    };
    expect(run('none')).toBe(1);
    const expected = reference(1, new Array<number>(40).fill(1), 1e-3, 0.5);
    expect(Math.abs(run('stochastic') - expected)).toBeLessThan(2e-3);
  });
});

test.each(['float32', 'bfloat16'] as const)(
  'moments in bf16 stand beside fp32 weights of %s parameters, and follow the formula about',
  (dtype) => {
    scope(() => {
      const w = full([4096], 1, { dtype });
      const optimizer = optimizerOf(w, { states: 'bfloat16' });
      const gradient = full([4096], 1, { dtype: 'float32' });
      for (let i = 0; i < 40; i++) {
        const rounding = roundingOf(i);
        optimizer.update(update(gradient, { scheduleFactor: 1e-2, rounding }));
      }
      const state = optimizer.state();
      expect(state.get('w.exp_avg')!.dtype).toBe('bfloat16');
      expect(state.get('w.step')!.item()).toBe(40);
      const master = state.get('w.master') ?? w;
      expect(master.dtype).toBe('float32');
      const expected = reference(1, new Array<number>(40).fill(1), 1e-3, 0.5);
      expect(Math.abs(master.mean(null).item() - expected)).toBeLessThan(2e-3);
      expect(w.toArray()).toEqual(master.to(dtype).toArray());

      // The gate holds here too.
      const read = () =>
        [w, ...state.values()].map((t) => Buffer.from(t.toBytes()).toString('base64'));
      const before = read();
      const broken = full([4096], NaN, { dtype: 'float32' });
      optimizer.update(update(broken, { foundInf: scalar(1), rounding: roundingOf(40) }));
      expect(read()).toEqual(before);
      optimizer.dispose();
    });
  },
);

test('moments in 8 bits take 2.03 bytes a parameter, follow the formula about, and the gate holds', () => {
  scope(() => {
    const count = 64 * 256;
    const make = () => {
      const parameters = new Map([
        ['w', full([count], 1, { dtype: 'bfloat16' })],
        ['embedding', full([count], 1, { dtype: 'bfloat16' })],
      ]);
      const group = { name: 'all', parameters, learningRate: 1e-3, weightDecay: 0.5 };
      return new AdamW([{ ...group, notInt8: new Set(['embedding']) }], { states: 'int8' });
    };
    const optimizer = make();
    const gradient = randn([count]).abs().add(0.1);
    const gradients = new Map([
      ['w', gradient],
      ['embedding', gradient],
    ]);
    for (let i = 0; i < 40; i++) optimizer.update(update(gradient, { gradients }));
    const state = optimizer.state();
    const bytes = (of: RegExp): number =>
      [...state].reduce((sum, [name, tensor]) => sum + (of.test(name) ? tensor.bytes : 0), 0);
    expect(bytes(/^w\.exp/)).toBe(2 * count + 2 * 4 * 64);
    expect(bytes(/^embedding\.exp/)).toBe(8 * count);
    expect(state.get('w.exp_avg_sq.absmax')!.shape).toEqual([64]);
    // Of one gradient again and again both give a step of the learning rate.
    const [own, exact] = ['w', 'embedding'].map((name) => state.get(`${name}.master`)!);
    const apart = own!.sub(exact!).abs();
    expect(apart.mean(null).item()).toBeLessThan(0.02 * 40 * 1e-3);
    // Where a gradient is small beside others of its block.
    expect(apart.max().item()).toBeLessThan(0.2 * 40 * 1e-3);
    const read = () => [...state.values()].map((t) => Buffer.from(t.toBytes()).toString('base64'));
    const before = read();
    const broken = new Map([['w', full([count], NaN, { dtype: 'float32' })]]);
    optimizer.update(update(gradient, { gradients: broken, foundInf: scalar(1) }));
    expect(read()).toEqual(before);
    optimizer.dispose();
  });
});

test('moments in 8 bits beside weights that are rounded at random keep small updates on average', () => {
  scope(() => {
    const w = full([4096], 1, { dtype: 'bfloat16' });
    const optimizer = optimizerOf(w, { master: 'stochastic', states: 'int8' });
    const gradient = full([4096], 1, { dtype: 'float32' });
    for (let i = 0; i < 40; i++)
      optimizer.update(update(gradient, { scheduleFactor: 1e-2, rounding: roundingOf(i) }));
    expect(optimizer.state().has('w.master')).toBe(false);
    const expected = reference(1, new Array<number>(40).fill(1), 1e-3, 0.5);
    expect(Math.abs(w.to('float32').mean(null).item() - expected)).toBeLessThan(2e-3);
    optimizer.dispose();
  });
});

test.each<AdamWOptions>([
  {},
  { states: 'bfloat16' },
  { states: 'int8' },
  { master: 'stochastic' },
  { master: 'stochastic', states: 'bfloat16' },
  { master: 'stochastic', states: 'int8' },
  { master: 'none', states: 'bfloat16' },
])('on a device beside the CPU an update holds nothing but numbers (%j)', (options) => {
  scope(() => {
    const device = 'meta';
    const make = () => new Map([['w', empty([2 ** 28], { dtype: 'bfloat16', device })]]);
    const optimizer = new AdamW([{ name: 'all', parameters: make(), learningRate: 0.1 }], options);
    const gradients = make();
    const one = full([], 1, { dtype: 'float32', device });
    resetPeak(device);
    const { allocated } = memoryStats(device);
    const rounding = roundingOf(1);
    optimizer.update({ gradients, scheduleFactor: 1, divisor: one, foundInf: one, rounding });
    expect(memoryStats(device).peakAllocated - allocated).toBeLessThan(2 ** 13);
    optimizer.dispose();
  });
});

test('pieces of a parameter are rounded as the whole is, wherever it is cut', () => {
  scope(() => {
    const gradient = randn([1000], { dtype: 'float32' });
    const start = randn([1000]).to('bfloat16');
    const run = (from: number, to: number) => {
      const w = start.narrow(0, from, to - from).clone();
      const optimizer = new AdamW(
        [
          {
            ...{ name: 'all', learningRate: 1e-3 },
            parameters: new Map([['w', w]]),
            from: new Map([['w', from]]),
          },
        ],
        { master: 'stochastic', states: 'bfloat16' },
      );
      for (let i = 0; i < 3; i++) {
        const part = gradient.narrow(0, from, to - from).clone();
        optimizer.update(update(part, { rounding: roundingOf(i) }));
      }
      const state = optimizer.state();
      const results = [w, state.get('w.exp_avg')!, state.get('w.exp_avg_sq')!].map(
        (t) => t.toArray() as number[],
      );
      optimizer.dispose();
      return results;
    };
    const whole = run(0, 1000);
    for (const cut of [8, 333, 997]) {
      const [low, high] = [run(0, cut), run(cut, 1000)];
      expect(low.map((values, i) => [...values, ...high[i]!])).toEqual(whole);
    }
  });
});

test('a parameter in two groups is refused, and nothing leaks', () => {
  const before = liveTensors();
  scope(() => {
    const w = zeros([2]);
    const group = { name: 'a', parameters: new Map([['w', w]]), learningRate: 1 };
    expect(() => new AdamW([group, { ...group, name: 'b' }])).toThrow(
      expect.objectContaining({ code: 'E_PARAMETER_GROUP' }) as Error,
    );
    optimizerOf(w).dispose();
  });
  expect(liveTensors()).toBe(before);
});

test.each<AdamWOptions>([{}, { states: 'bfloat16' }, { states: 'int8' }])(
  'takes a gradient by its values, however it lies in memory (%j)',
  (options) => {
    scope(() => {
      const gradient = randn([4, 3, 2, 2]);
      const lying = gradient.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
      expect(lying.strides).not.toEqual(gradient.strides);
      const [straight, permuted] = [gradient, lying].map((each) => {
        const weight = zeros([4, 3, 2, 2]);
        const optimizer = optimizerOf(weight, options);
        optimizer.update(update(each));
        optimizer.dispose();
        return weight.toArray();
      });
      expect(permuted).toEqual(straight);
    });
  },
);
