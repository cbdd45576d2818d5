import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  empty,
  RandomGenerator,
  grad,
  linear,
  memoryStats,
  randn,
  resetPeak,
  scope,
  tensor,
  type Tensor,
  zeros,
} from '../torch/index.js';
import { chunkedCrossEntropy } from './cross-entropy.js';
import { expectClose, layerCases, numericGradient } from './testing.js';

const indices = (values: Iterable<number>) =>
  tensor(BigInt64Array.from(values, (value) => BigInt(value)));

test.each(layerCases('cross-entropy'))('matches PyTorch at any chunk: $name', (layerCase) => {
  for (const chunk of [1, 3, 1024]) {
    scope(() => {
      const [hidden, weight] = [layerCase.leaf('hidden'), layerCase.leaf('weight')];
      const labels = [...(layerCase.tensor('labels').toTypedArray() as BigInt64Array)].map(Number);
      const supervised = [...labels.keys()].filter((i) => labels[i] !== -100);
      const rows = hidden.flatten(0, 1).indexSelect(0, indices(supervised));
      const result = chunkedCrossEntropy(
        (part) => linear(part, weight),
        rows,
        indices(supervised.map((i) => labels[i]!)),
        {
          chunk,
          gradient: { factor: layerCase.tensor('grad.y'), hidden: true, parameters: [weight] },
        },
      );
      expectClose(result.losses.sum(null), layerCase.tensor('y'));
      const [gradient] = grad([rows], [hidden], [result.hiddenGradient]);
      expectClose(gradient!, layerCase.tensor('grad.hidden'));
      expectClose(result.parameterGradients[0]!, layerCase.tensor('grad.weight'));
    });
  }
});

test.each([0, -1, 2.5, NaN])('refuses chunks of %s rows', (chunk) => {
  scope(() => {
    const [hidden, targets] = [zeros([4, 3]), indices([0, 1, 2, 0])];
    expect(() => chunkedCrossEntropy((part) => part, hidden, targets, { chunk })).toThrow(
      expect.objectContaining({ code: 'E_ARGUMENT' }),
    );
  });
});

test('equals the plain loss and its gradients, whatever the chunk', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 14 }),
      fc.integer(),
      (N, chunk, seed) => {
        scope(() => {
          const generator = RandomGenerator.create(seed);
          const leaf = (...shape: number[]) =>
            randn(shape, { generator, dtype: 'float64' }).requiresGrad_();
          const [hidden, weight, bias] = [leaf(N, 5), leaf(7, 5), leaf(7)] as const;
          const targets = empty([N]).uniform_(0, 7, { generator }).to('int64');
          const upstream = randn([], { generator, dtype: 'float64' });
          const head = (part: Tensor) => linear(part, weight, bias);
          const plain = head(hidden).crossEntropyLoss(targets, null, 0);
          const expected = grad([plain.sum(null)], [hidden, weight, bias], [upstream]);
          const result = chunkedCrossEntropy(head, hidden, targets, {
            chunk,
            gradient: { factor: upstream, hidden: true, parameters: [weight, bias] },
          });
          expectClose(result.losses, plain, 1e-14);
          [result.hiddenGradient, ...result.parameterGradients].forEach((gradient, i) => {
            expectClose(gradient, expected[i]!, 1e-13);
          });
          generator.dispose();
        });
      },
    ),
    { numRuns: 30 },
  );
});

test('has the gradients of finite differences', () => {
  scope(() => {
    const hidden = randn([5, 3], { dtype: 'float64' });
    const weight = randn([11, 3], { dtype: 'float64' }).requiresGrad_();
    const targets = indices([0, 10, 3, 3, 7]);
    const head = (part: Tensor) => linear(part, weight);
    const factor = tensor(1, { dtype: 'float64' });
    const result = chunkedCrossEntropy(head, hidden, targets, {
      chunk: 2,
      gradient: { factor, hidden: true, parameters: [weight] },
    });
    const sum = () =>
      chunkedCrossEntropy(head, hidden, targets, { chunk: 3 }).losses.sum(null).item();
    expectClose(result.hiddenGradient, numericGradient(sum, hidden), 1e-7);
    expectClose(result.parameterGradients[0]!, numericGradient(sum, weight), 1e-7);
  });
});

test('gradients come only where they are asked for', () => {
  scope(() => {
    const hidden = randn([4, 3]);
    const [weight, unused] = [randn([6, 3]).requiresGrad_(), randn([2]).requiresGrad_()];
    const head = (part: Tensor) => linear(part, weight);
    const targets = indices([0, 5, 2, 2]);
    const factor = tensor(2);
    const only = (gradient?: { factor: Tensor; hidden: boolean; parameters: Tensor[] }) =>
      chunkedCrossEntropy(head, hidden, targets, gradient ? { chunk: 3, gradient } : { chunk: 3 });

    const losses = only();
    expect([losses.hiddenGradient, losses.parameterGradients]).toEqual([null, []]);
    expect(losses.losses.requiresGrad).toBe(false);
    const states = only({ factor, hidden: true, parameters: [] });
    expect(states.parameterGradients).toEqual([]);
    const parameters = only({ factor, hidden: false, parameters: [unused, weight] });
    expect([parameters.hiddenGradient, parameters.parameterGradients[0]]).toEqual([null, null]);
    const both = only({ factor, hidden: true, parameters: [weight] });
    expectClose(states.hiddenGradient, both.hiddenGradient!, 0);
    expectClose(parameters.parameterGradients[1]!, both.parameterGradients[0]!, 0);
  });
});

test('no supervised position at all', () => {
  scope(() => {
    const weight = randn([6, 3]).requiresGrad_();
    const result = chunkedCrossEntropy((part) => linear(part, weight), zeros([0, 3]), indices([]), {
      gradient: { factor: tensor(1), hidden: true, parameters: [weight] },
    });
    expect([result.losses.shape, result.hiddenGradient!.shape]).toEqual([[0], [0, 3]]);
    expect(result.parameterGradients).toEqual([null]);
  });
});

test('bf16: many chunks are as accurate as one', () => {
  scope(() => {
    const [hidden, exact] = [randn([96, 8]), randn([32, 8])];
    const targets = empty([96]).uniform_(0, 32).to('int64');
    const run = (dtype: 'float32' | 'bfloat16', chunk: number) => {
      const weight = exact.to(dtype).detach().requiresGrad_();
      const head = (part: Tensor) => linear(part, weight);
      const gradient = { factor: tensor(1), hidden: true, parameters: [weight] };
      return chunkedCrossEntropy(head, hidden.to(dtype), targets, { chunk, gradient });
    };
    const reference = run('float32', 96);
    const many = run('bfloat16', 2);
    expect(many.losses.dtype).toBe('float32');
    expect(many.parameterGradients[0]!.dtype).toBe('bfloat16');
    expectClose(many.losses, reference.losses, 0.02);
    expectClose(many.hiddenGradient, reference.hiddenGradient!, 0.02);
    expectClose(many.parameterGradients[0]!, reference.parameterGradients[0]!, 0.02);
  });
});

test('on meta tensors: never more than a chunk of logits is alive', () => {
  scope(() => {
    const [N, C, V] = [4096, 64, 50_000];
    const options = { device: 'meta', dtype: 'bfloat16' } as const;
    const weight = empty([V, C], options).requiresGrad_();
    const peak = (chunk: number) => {
      resetPeak('meta');
      const before = memoryStats('meta').allocated;
      const result = chunkedCrossEntropy(
        (part) => linear(part, weight),
        empty([N, C], options),
        empty([N], { device: 'meta', dtype: 'int64' }),
        {
          chunk,
          gradient: { factor: empty([], { device: 'meta' }), hidden: true, parameters: [weight] },
        },
      );
      expect(result.hiddenGradient!.shape).toEqual([N, C]);
      return memoryStats('meta').peakAllocated - before;
    };
    // The logits alone, whose gradient takes their place.
    const weightBytes = V * C * (2 + 4 + 2);
    expect(peak(128)).toBeLessThan(128 * V * 2 + weightBytes + 4 * N * C);
    expect(peak(4096)).toBeGreaterThan(4096 * V * 2);
  });
});
