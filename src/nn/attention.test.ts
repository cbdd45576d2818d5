import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cat,
  cudaAvailable,
  type DType,
  empty,
  RandomGenerator,
  grad,
  randn,
  scope,
  type Tensor,
} from '../torch/index.js';
import {
  attention,
  type AttentionKernel,
  causalMask,
  packSequences,
  paddedLengths,
} from './attention.js';
import { expectCase, expectClose, expectGradients, layerCases } from './testing.js';

interface Settings {
  causal: boolean;
  lengths: number[] | null;
  scale: number | null;
}

/** A kernel that is missing here does not compile. */
const ALL = Object.keys({
  cpu: 0,
  cudnn: 0,
  flash: 0,
  efficient: 0,
  math: 0,
} satisfies Record<AttentionKernel, 0>) as AttentionKernel[];

/** The kernels that run on a CPU. */
const ON_CPU: AttentionKernel[] = ['cpu', 'math'];

const sequencesOf = (lengths: number[] | null) =>
  lengths === null ? undefined : packSequences(lengths, 'cpu');

describe.each(ON_CPU)('kernel %s', (kernel) => {
  test.each(layerCases<Settings>('attention'))('matches PyTorch: $name', (layerCase) => {
    scope(() => {
      const [q, k, v] = ['q', 'k', 'v'].map((name) => layerCase.leaf(name)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const { causal, lengths, scale } = layerCase.settings;
      const [queries, keys] = [q.size(1), k.size(1)];
      const cached = queries !== keys;
      const y = attention(q, k, v, {
        kernel,
        causal: causal && !cached,
        sequences: sequencesOf(lengths),
        mask: cached ? causalMask(queries, keys, { dtype: 'float32', device: 'cpu' }) : undefined,
        scale: scale ?? undefined,
      });
      expectCase(layerCase, Object.entries({ q, k, v }), { y });
    });
  });

  test.each([
    { shape: [1, 3, 4, 2, 3], causal: true, lengths: null },
    { shape: [1, 4, 3, 1, 3], causal: false, lengths: [1, 3] },
    { shape: [2, 3, 2, 2, 1], causal: true, lengths: [2, 1, 3] },
  ])('has the gradients of finite differences: $shape, $lengths', ({ shape, causal, lengths }) => {
    scope(() => {
      const [B, T, H, G, D] = shape as [number, number, number, number, number];
      const leaf = (heads: number) => randn([B, T, heads, D], { dtype: 'float64' }).requiresGrad_();
      const [q, k, v] = [leaf(H), leaf(G), leaf(G)];
      const options = { kernel, causal, sequences: sequencesOf(lengths) };
      expectGradients(() => attention(q, k, v, options), [q, k, v]);
    });
  });
});

test('packed sequences see what each would see alone', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 }),
      fc.constantFrom([1, 1], [4, 2], [3, 1]),
      fc.boolean(),
      fc.integer(),
      (lengths, [H, G], causal, seed) => {
        scope(() => {
          const T = lengths.reduce((sum, length) => sum + length, 0);
          const generator = RandomGenerator.create(seed);
          const options = { generator, dtype: 'float64' } as const;
          const leaf = (heads: number) => randn([1, T, heads, 4], options).requiresGrad_();
          const qkv = [leaf(H), leaf(G), leaf(G)] as [Tensor, Tensor, Tensor];
          const upstream = randn([1, T, H, 4], { generator });
          const packed = attention(...qkv, {
            kernel: 'cpu',
            causal,
            sequences: sequencesOf(lengths),
          });
          let start = 0;
          const alone = lengths.map((length) => {
            const part = qkv.map((x) => x.narrow(1, start, length)) as [Tensor, Tensor, Tensor];
            start += length;
            return attention(...part, { kernel: 'math', causal });
          });
          const expected = cat(alone, 1);
          expectClose(packed, expected, 1e-12);
          // Together: those of q and k alone are 0 but for rounding where every sequence is one position.
          const gradient = (of: Tensor): Tensor =>
            cat(grad([of], qkv, [upstream]).map((g) => g!.flatten()));
          expectClose(gradient(packed), gradient(expected), 1e-12);
          generator.dispose();
        });
      },
    ),
    { numRuns: 25 },
  );
});

test('rows padded on the right: real positions see real positions only', () => {
  scope(() => {
    expect(paddedLengths([5, 8, 0, 7], 8)).toEqual([5, 3, 8, 8, 7, 1]);
    const leaf = () => randn([2, 6, 2, 4]);
    const qkv = [leaf(), leaf(), leaf()] as [Tensor, Tensor, Tensor];
    const sequences = packSequences(paddedLengths([4, 6], 6), 'cpu');
    const y = attention(...qkv, { kernel: 'cpu', sequences });
    const first = qkv.map((x) => x.narrow(0, 0, 1).narrow(1, 0, 4)) as [Tensor, Tensor, Tensor];
    expectClose(y.narrow(0, 0, 1).narrow(1, 0, 4), attention(...first, { kernel: 'math' }));
  });
});

test('each kernel runs on meta tensors, forward and backward', () => {
  const options = { dtype: 'bfloat16', device: 'meta' } as const;
  for (const kernel of ALL) {
    scope(() => {
      const q = empty([2, 12, 4, 10], options).requiresGrad_();
      const k = empty([2, 12, 2, 10], options);
      for (const sequences of [undefined, packSequences([5, 12, 7], 'meta')]) {
        const y = attention(q, k, k, { kernel, causal: true, sequences });
        expect([kernel, y.shape, y.dtype, y.device]).toEqual([kernel, q.shape, 'bfloat16', 'meta']);
        expect(grad([y], [q], [y.detach()])[0]!.shape).toEqual(q.shape);
      }
    });
  }
});

describe.runIf(cudaAvailable())('on a GPU', () => {
  const cases = layerCases<Settings>('attention');
  const kernels: [AttentionKernel, DType, number][] = [
    ['cudnn', 'bfloat16', 0.02],
    ['flash', 'bfloat16', 0.02],
    ['flash', 'float16', 0.003],
    ['efficient', 'float32', 1e-5],
    ['math', 'float32', 1e-5],
  ];
  test.each(kernels)('%s in %s matches PyTorch', (kernel, dtype, tolerance) => {
    for (const layerCase of cases) {
      scope(() => {
        const device = 'cuda:0';
        const qkv = ['q', 'k', 'v'].map((name) =>
          layerCase.tensor(name).to({ device, dtype }).requiresGrad_(),
        ) as [Tensor, Tensor, Tensor];
        const { causal, lengths, scale } = layerCase.settings;
        const [queries, keys] = [qkv[0].size(1), qkv[1].size(1)];
        const cached = queries !== keys;
        if (cached && kernel === 'flash') return;
        const y = attention(...qkv, {
          kernel,
          causal: causal && !cached,
          sequences: lengths === null ? undefined : packSequences(lengths, device),
          mask: cached ? causalMask(queries, keys, { dtype, device }) : undefined,
          scale: scale ?? undefined,
        });
        expectClose(y.to('cpu'), layerCase.tensor('y'), tolerance);
        const upstream = layerCase.tensor('grad.y').to({ device, dtype });
        grad([y], qkv, [upstream]).forEach((gradient, i) => {
          const name = `grad.${'qkv'[i]!}`;
          expectClose(gradient!.to('cpu'), layerCase.tensor(name), tolerance, name);
        });
      });
    }
  });
});

test('options that do not fit are refused', () => {
  scope(() => {
    const [q, k] = [randn([1, 4, 2, 8]), randn([1, 6, 2, 8])];
    const mask = causalMask(4, 6, { dtype: 'float32', device: 'cpu' });
    const refused = (run: () => unknown, message: RegExp) => {
      expect(run).toThrow(
        expect.objectContaining({
          code: 'E_ATTENTION',
          message: expect.stringMatching(message) as string,
        }),
      );
    };
    refused(() => attention(q, k, k, { kernel: 'cpu', causal: true }), /4 queries .* 6 keys/);
    const sequences = packSequences([2, 3], 'cpu');
    refused(
      () => attention(q, q, q, { kernel: 'cpu', sequences }),
      /2 \+ 3 positions do not fill 1 x 4/,
    );
    refused(
      () => attention(q, q, q, { kernel: 'cpu', sequences, mask }),
      /a mask excludes sequences/,
    );
    refused(() => attention(q, k, k, { kernel: 'flash', mask }), /takes no mask/);
    const odd = randn([1, 4, 3, 8]);
    refused(() => attention(odd, q, q, { kernel: 'cpu' }), /3 query heads over 2 key heads/);
  });
});
