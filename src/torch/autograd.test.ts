/** Gradients, grad mode, inference mode, and the graph that is recorded. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import {
  cudaAvailable,
  enableGrad,
  grad,
  graph,
  inferenceMode,
  isGradEnabled,
  noGrad,
  ones,
  scope,
  tensor,
} from './index.js';

const code = (value: string): unknown => expect.objectContaining({ code: value });

describe('grad', () => {
  test('of a scalar and of a tensor with an upstream gradient', () => {
    scope(() => {
      const x = tensor([1, 2, 3]).requiresGrad_();
      expect(grad([x.mul(x).sum(null)], [x])[0]!.toArray()).toEqual([2, 4, 6]);
      const y = x.mul(x);
      expect(grad([y], [x], [tensor([1, 0, 10])])[0]!.toArray()).toEqual([2, 0, 60]);
    });
  });

  test('gives null for an input that was not used', () => {
    scope(() => {
      const [x, unused] = [tensor(2).requiresGrad_(), tensor(1).requiresGrad_()];
      const [dx, none] = grad([x.mul(3)], [x, unused]);
      expect([dx!.item(), none]).toEqual([3, null]);
    });
  });

  test('of several outputs sums them; null upstream stands for a scalar’s own 1', () => {
    scope(() => {
      const x = tensor(3).requiresGrad_();
      const outputs = [x.mul(2), x.mul(x)];
      expect(grad(outputs, [x], [null, tensor(10)])[0]!.item()).toBe(2 + 60);
    });
  });

  test('goes through a graph once', () => {
    scope(() => {
      const x = tensor(3).requiresGrad_();
      const y = x.mul(x);
      expect(grad([y], [x])[0]!.item()).toBe(6);
      expect(() => grad([y], [x])).toThrow(code('E_GRAPH'));
    });
  });

  test('of intermediate tensors', () => {
    scope(() => {
      const x = tensor(3).requiresGrad_();
      const y = x.mul(2);
      expect(grad([y.mul(y)], [y])[0]!.item()).toBe(12);
    });
  });

  test('notices a saved tensor that was written since', () => {
    scope(() => {
      const x = tensor([1, 2]).requiresGrad_();
      const w = tensor([3, 4]);
      const y = x.mul(w).sum(null);
      w.add_(1);
      expect(() => grad([y], [x])).toThrow(/modified by an inplace operation/);
    });
  });

  test('refuses what has no graph, shapes that do not fit, wrong counts', () => {
    scope(() => {
      const x = tensor([1, 2]).requiresGrad_();
      expect(() => grad([tensor(1)], [x])).toThrow(/does not require grad/);
      expect(() => grad([x.mul(2)], [x])).toThrow(/scalar outputs/);
      expect(() => grad([x.mul(2)], [x], [ones([3])])).toThrow(code('E_SHAPE'));
      expect(() => grad([x.mul(2)], [x], [null, null])).toThrow(code('E_ARGUMENT'));
    });
  });

  test('leaks nothing, not even when it fails', () => {
    const x = tensor([1, 2]).requiresGrad_();
    expect(() => {
      scope(() => grad([x.mul(x).sum(null)], [x])[0]!.item);
      expect(() => scope(() => grad([x.mul(2)], [x]))).toThrow();
    }).toLeakNothing();
    x.dispose();
  });
});

describe('modes', () => {
  test('noGrad and enableGrad nest, and exceptions restore the mode', () => {
    scope(() => {
      const x = tensor(1).requiresGrad_();
      expect(noGrad(() => x.mul(2).requiresGrad)).toBe(false);
      expect(noGrad(() => enableGrad(() => x.mul(2).requiresGrad))).toBe(true);
      expect(() =>
        noGrad(() => {
          enableGrad(() => {
            throw new Error('stop');
          });
        }),
      ).toThrow('stop');
      expect(isGradEnabled()).toBe(true);
      expect(x.mul(2).requiresGrad).toBe(true);
    });
  });

  test('inference mode records nothing, ends with an exception too, and its tensors cannot be saved', () => {
    scope(() => {
      const x = tensor(2).requiresGrad_();
      const made = inferenceMode(() => {
        expect(isGradEnabled()).toBe(false);
        return x.mul(3);
      });
      expect([made.requiresGrad, made.item(), isGradEnabled()]).toEqual([false, 6, true]);
      expect(() => x.mul(made)).toThrow(/Inference tensors cannot be saved/);
      expect(() =>
        inferenceMode(() => {
          throw new RangeError('stop');
        }),
      ).toThrow(RangeError);
      expect([isGradEnabled(), x.mul(2).requiresGrad]).toEqual([true, true]);
      expect(() => inferenceMode(() => ones([2]).add(ones([3])))).toThrow(code('E_SHAPE'));
      expect(x.add(1).version).toBe(0);
    });
  });

  test.each([
    ['noGrad', noGrad],
    ['enableGrad', enableGrad],
    ['inferenceMode', inferenceMode],
  ])('%s refuses an asynchronous function', (_, mode) => {
    expect(() => mode(async () => Promise.resolve())).toThrow(code('E_SCOPE_ASYNC'));
    expect(isGradEnabled()).toBe(true);
  });
});

test('graph() names the nodes and what they saved', () => {
  scope(() => {
    const x = ones([2, 3]).requiresGrad_();
    const w = ones([3, 4]).requiresGrad_();
    const nodes = graph(x.matmul(w).silu());
    expect(nodes.map(({ name }) => name)).toEqual(['SiluBackward0', 'MmBackward0']);
    expect(nodes[1]!.saved).toEqual([
      { dtype: 'float32', shape: [3, 4] },
      { dtype: 'float32', shape: [2, 3] },
    ]);
    expect(graph(x)).toEqual([]);
  });
});

/** In a process of its own: only the first product of a thread could say something. */
test.runIf(cudaAvailable())('on a GPU a gradient is a product without a word', () => {
  const script = `
    import { grad, ones } from ${JSON.stringify(pathToFileURL(join(packageRoot(), 'dist/src/index.js')).href)};
    const x = ones([4, 4], { device: 'cuda:0' }).requiresGrad_();
    console.log(grad([x.matmul(x).sum(null)], [x])[0].sum(null).item());`;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', script],
    { encoding: 'utf8' },
  );
  expect({ stdout, stderr }).toEqual({ stdout: '128\n', stderr: '' });
});
