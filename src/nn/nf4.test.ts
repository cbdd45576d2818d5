/** NF4 against what bitsandbytes has computed (test/fixtures/nf4): codes, scales, values, products; kernels against composites on a GPU. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import { cases } from '../base/testing.js';
import { operators } from '../torch/generate/testing.js';
import {
  cudaAvailable,
  type Device,
  type DType,
  empty,
  grad,
  noGrad,
  RandomGenerator,
  randn,
  scope,
  tensor,
  type Tensor,
} from '../torch/index.js';
import { expectSame, tensorsOf } from '../torch/testing-file.js';
import { Linear } from './linear.js';
import {
  dequantiseNf4,
  DYNAMIC_CODE,
  Nf4,
  NF4_CODE,
  nf4Bytes,
  type Nf4Form,
  type Nf4Parts,
  nf4Shapes,
  quantiseNf4,
} from './nf4.js';
import { Projection } from './projection.js';
import { weightName } from './quantised-form.js';
import { expectClose } from './testing.js';

const FOLDER = join(packageRoot(), 'test', 'fixtures', 'nf4');
const { cases: CASES } = JSON.parse(readFileSync(join(FOLDER, 'expected.json'), 'utf8')) as {
  cases: Record<string, { file: string; linear: boolean }>;
};
const stored = (file: string): ((name: string) => Tensor) => tensorsOf(join(FOLDER, file));

const SINGLE: Nf4Form = { doubleQuantised: false };
const DOUBLE: Nf4Form = { doubleQuantised: true };

describe('as bitsandbytes has it', () => {
  test('the values that codes and bytes stand for', () => {
    scope(() => {
      const map = stored('dynamic_map.safetensors');
      expect([...NF4_CODE]).toEqual(map('nf4').toArray());
      expect([...DYNAMIC_CODE]).toEqual(map('dynamic').toArray());
    });
  });

  test.each(Object.entries(CASES))('%s', (_name, { file, linear }) => {
    scope(() => {
      const read = stored(file);
      const weight = read('weight');
      const single = quantiseNf4(weight, SINGLE);
      expectSame(single.packed, read('packed'), 'packed');
      expectSame(single.absmax, read('absmax'), 'absmax');
      const double = quantiseNf4(weight, DOUBLE);
      expectSame(double.packed, read('packed'), 'packed, double');
      const isApart = readFileSync(join(FOLDER, file)).includes('double.absmax_nearest');
      expectSame(double.absmax, read(isApart ? 'double.absmax_nearest' : 'double.absmax'));
      expectClose(double.offset!, read('double.offset'), 1.2e-7, 'offset');
      expectClose(double.nested!, read('double.nested_absmax'), 1.2e-7, 'nested_absmax');

      const given: Nf4Parts = {
        ...double,
        absmax: read('double.absmax'),
        nested: read('double.nested_absmax'),
        offset: read('double.offset'),
      };
      const { dtype, shape } = weight;
      for (const [parts, prefix] of [
        [single, ''],
        [given, 'double.'],
      ] as const) {
        const dense = dequantiseNf4(parts, empty(shape, { dtype }));
        expectSame(dense, read(`${prefix}dequantised`), `${prefix}dequantised`);
        if (!linear) continue;
        // What codes stand for is rounded to the weight's type, and multiplied in fp32.
        const form = { doubleQuantised: prefix !== '', type: dtype };
        const layer = inNf4(parts, shape, form, 'float32');
        expectClose(layer.forward(read('linear.x')), read(`${prefix}linear.y`), 1e-5);
        expectClose(layer.base.inputProduct(read('linear.dy')), read(`${prefix}linear.dx`), 1e-5);
        layer.dispose();
      }
    });
  });
});

/** A layer that has these parts. */
function inNf4(
  parts: Nf4Parts,
  shape: readonly number[],
  form: Nf4Form,
  dtype: DType,
  bias?: Tensor,
): Linear {
  const layer = new Linear(shape[1]!, shape[0]!, { bias: bias !== undefined, dtype });
  layer.quantise(new Nf4(form));
  layer.loadParts(parts);
  if (bias !== undefined) layer.load('bias', bias);
  return layer;
}

describe('a layer in NF4', () => {
  const forms = [SINGLE, DOUBLE];
  const drawn = (...shape: number[]): Tensor =>
    randn(shape, { generator: RandomGenerator.create(shape.length + shape[0]!) });

  test.each(forms)('holds its parts under the names of bitsandbytes: %o', (form) => {
    scope(() => {
      const layer = inNf4(quantiseNf4(drawn(6, 65), form), [6, 65], form, 'bfloat16', drawn(6));
      const names = [...layer.namedParameters('p').keys()];
      expect(names.filter((name) => name.startsWith('p.weight')).map(weightName)).toEqual(
        [...nf4Shapes(390, form).keys()].map(() => 'p.weight'),
      );
      const { bytes, shape, dtype } = layer.base;
      expect([shape, dtype]).toEqual([[6, 65], 'bfloat16']);
      const held = [...layer.namedParameters().entries()].filter(([name]) => name !== 'bias');
      expect(bytes).toBe(held.reduce((sum, [, part]) => sum + part.bytes, 0));
      expect(bytes).toBe(nf4Bytes(390, form));
      layer.makeDense();
      expect(layer.weight.shape).toEqual([6, 65]);
      layer.dispose();
    });
  });

  test.each(forms)('differentiates its input, and saves no dense weight: %o', (form) => {
    scope(() => {
      const parts = quantiseNf4(drawn(6, 64), form);
      const layer = inNf4(parts, [6, 64], form, 'float32', drawn(6));
      const dense = layer.base.dense();
      const [x, y] = [drawn(3, 64).requiresGrad_(), drawn(3, 64).requiresGrad_()];
      const upstream = drawn(3, 6);
      const product = layer.forward(x);
      const expected = y.matmul(dense.transpose(0, 1)).add(layer.bias!);
      expectClose(product, expected, 1e-6);
      const [dx] = grad([product], [x], [upstream]);
      expectClose(dx!, grad([expected], [y], [upstream])[0]!, 1e-6);
      expectClose(layer.base.inputProduct(upstream), dx!, 1e-6);
      layer.dispose();
    });
  });

  test.each([
    ['plain', false],
    ['DoRA', true],
  ])('an adapter beside it, %s, is that beside what it stands for', (_name, dora) => {
    scope(() => {
      const layer = inNf4(quantiseNf4(drawn(6, 64), DOUBLE), [6, 64], DOUBLE, 'float32');
      const plain = new Linear(64, 6, { bias: false });
      plain.load('weight', layer.base.dense());
      const results = [layer, plain].map((each) => {
        const adapter = each.attachAdapter({ rank: 2, alpha: 4, dora });
        adapter.load('lora_A.weight', drawn(2, 64));
        adapter.load('lora_B.weight', drawn(6, 2));
        if (dora) adapter.load('lora_magnitude_vector', drawn(6));
        return each.forward(drawn(3, 64));
      });
      expectClose(results[0]!, results[1]!, 1e-6);
      layer.mergeAdapter();
      plain.mergeAdapter();
      expectClose(layer.weight, plain.weight, 1e-6);
      layer.dispose();
      plain.dispose();
    });
  });

  test('several that share their input are one product, each quantised by itself', () => {
    scope(() => {
      const layers = [5, 3].map((rows) =>
        inNf4(quantiseNf4(drawn(rows, 65), SINGLE), [rows, 65], SINGLE, 'float32'),
      );
      const projection = new Projection(layers);
      projection.laySideBySide();
      expect(projection.trains).toBe(false);
      const [x, g] = [drawn(4, 65), drawn(4, 8)];
      noGrad(() => {
        const { output } = projection.forward(x, [null, null]);
        expectClose(output.narrow(1, 0, 5), layers[0]!.forward(x), 1e-6);
        expectClose(output.narrow(1, 5, 3), layers[1]!.forward(x), 1e-6);
        const input = projection.backward(g, [null, null]).input(() => x);
        const apart = layers.map(({ base }, i) => {
          return base.inputProduct(i === 0 ? g.narrow(1, 0, 5) : g.narrow(1, 5, 3));
        });
        expectClose(input, apart[0]!.add(apart[1]!), 1e-6);
      });
      for (const layer of layers) layer.dispose();
    });
  });

  test('runs on meta', () => {
    scope(() => {
      const layer = new Linear(64, 6, { bias: false });
      layer.quantise(new Nf4(DOUBLE));
      const x = empty([3, 64], { device: 'meta' }).requiresGrad_();
      const y = layer.forward(x);
      expect([y.shape, grad([y], [x], [y])[0]!.shape]).toEqual([
        [3, 6],
        [3, 64],
      ]);
      layer.dispose();
    });
  });

  test('parts of another matrix are refused', () => {
    scope(() => {
      const parts = quantiseNf4(drawn(6, 64), SINGLE);
      expect(() => dequantiseNf4(parts, empty([6, 65]))).toThrow(
        /390 weights in NF4 are 195 bytes/,
      );
      const bytes = { ...parts, absmax: tensor([1, 2, 3, 4, 5, 6], { dtype: 'uint8' }) };
      expect(() => dequantiseNf4(bytes, empty([6, 64]))).toThrow(/float32, or bytes with scales/);
    });
  });
});

const composites = operators(
  { operator: 'patina::nf4_quantise_composite' },
  { operator: 'patina::nf4_dequantise_composite_' },
) as {
  nf4QuantiseComposite: (weight: Tensor, code: Tensor) => [Tensor, Tensor];
  nf4DequantiseComposite_: (x: Tensor, ...rest: Parameters<Tensor['nf4Dequantise_']>) => Tensor;
};

describe.each<Device>(cudaAvailable() ? ['cpu', 'cuda:0'] : ['cpu'])('kernels on %s', (device) => {
  test.each<DType>(['float32', 'float16', 'bfloat16', 'float64'])(
    'equal composites on the CPU to the bit in %s',
    (dtype) => {
      const property = fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: -6, max: 4 }),
        fc.boolean(),
        fc.constantFrom<DType>('float32', 'float16', 'bfloat16'),
        (rows, columns, power, doubleQuantised, type) => {
          scope(() => {
            using generator = RandomGenerator.create(rows * 1000 + columns);
            const wide = randn([rows, columns], { generator }).mul(10 ** power);
            const weight = wide.to(dtype);
            const there = quantiseNf4(weight.to(device), { doubleQuantised });
            const code = there.code.to('cpu');
            const [packed, absmax] = composites.nf4QuantiseComposite(weight, code);
            expectSame(there.packed.to('cpu'), packed, 'packed');
            if (!doubleQuantised) expectSame(there.absmax.to('cpu'), absmax, 'absmax');
            const here = (Object.values(there) as Tensor[]).map((part) => part.to('cpu'));
            const [, scales, , nested = null, nestedCode = null, offset = null] = here;
            const dense = dequantiseNf4(there, empty([rows, columns], { dtype, device }), type);
            const expected = composites.nf4DequantiseComposite_(
              empty([rows, columns], { dtype }),
              ...([packed, scales!, code, nested, nestedCode, offset] as const),
              { type },
            );
            expectSame(dense.to('cpu'), expected, 'dense');
          });
        },
      );
      fc.assert(property, { numRuns: cases(30) });
    },
  );
});
