/** Tensors: facts, reading, printing, storage, life. */

import { inspect } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import {
  DTYPES,
  dtypeBytes,
  empty,
  fromBytes,
  grad,
  inferenceMode,
  isFloating,
  liveSites,
  ones,
  scope,
  tensor,
  traceTensors,
  zeros,
  type DType,
  type ElementArray,
} from './index.js';

const code = (value: string): unknown => expect.objectContaining({ code: value });

describe('facts', () => {
  test('shape, strides, sizes', () => {
    scope(() => {
      const x = zeros([2, 3, 4], { dtype: 'bfloat16' });
      expect(x).toMatchObject({ shape: [2, 3, 4], ndim: 3, numel: 24, bytes: 48, device: 'cpu' });
      expect([x.size(0), x.size(-1), x.strides, x.isContiguous]).toEqual([2, 4, [12, 4, 1], true]);
      const y = x.transpose(0, 2).narrow(1, 1, 2);
      expect(y).toMatchObject({ shape: [4, 2, 2], storageOffset: 4, isContiguous: false });
      expect([y.strides, y.storageBytes]).toEqual([[1, 4, 12], 48]);
      expect(y.storageId()).toBe(x.storageId());
      expect(y.clone().storageId()).not.toBe(x.storageId());
      expect(tensor(1)).toMatchObject({ shape: [], ndim: 0, numel: 1 });
      expect(() => x.size(3)).toThrow(code('E_SHAPE'));
    });
  });

  test('autograd', () => {
    scope(() => {
      const x = ones([2]).requiresGrad_();
      const y = x.mul(2);
      expect([x.requiresGrad, x.isLeaf, y.requiresGrad, y.isLeaf]).toEqual([
        true,
        true,
        true,
        false,
      ]);
      expect(y.detach().requiresGrad).toBe(false);
      const z = ones([2]);
      const { version } = z;
      z.add_(1).zero_();
      expect(z.version).toBe(version + 2);
      expect(inferenceMode(() => ones([1])).version).toBe(-1);
    });
  });
});

describe('dtypes', () => {
  test.each(DTYPES)('%s is made, converted, read and printed', (dtype) => {
    scope(() => {
      const x = tensor([0, 1, 1], { dtype });
      expect(x).toMatchObject({ dtype, bytes: 3 * dtypeBytes(dtype) });
      expect(x.toArray()).toEqual([0, 1, 1]);
      expect(x.select(0, 1).item()).toBe(1);
      expect(x.toBytes()).toHaveLength(3 * dtypeBytes(dtype));
      expect(fromBytes(x.toBytes(), [3], dtype).toArray()).toEqual([0, 1, 1]);
      expect(x.toString()).toBe(
        `Tensor ${dtype}[3] cpu: ${dtype === 'bool' ? 'false, true, true' : '0, 1, 1'}`,
      );
      expect(empty([3], { dtype, device: 'meta' }).dtype).toBe(dtype);
    });
  });

  test('the narrow floats round as they should', () => {
    scope(() => {
      const rounded = (value: number, dtype: DType): number => tensor(value, { dtype }).item();
      expect(rounded(1.00390625, 'bfloat16')).toBe(1);
      expect(rounded(65504, 'float16')).toBe(65504);
      expect(rounded(448, 'float8_e4m3fn')).toBe(448);
      expect(rounded(57344, 'float8_e5m2')).toBe(57344);
      expect(rounded(0.3, 'float8_e4m3fn')).toBe(0.3125);
    });
  });

  test('the elements come in the array of their dtype', () => {
    scope(() => {
      const kinds: Partial<Record<DType, ElementArray>> = {
        float64: new Float64Array([1]),
        int64: new BigInt64Array([1n]),
        uint64: new BigUint64Array([1n]),
        int16: new Int16Array([1]),
        uint16: new Uint16Array([1]),
        uint32: new Uint32Array([1]),
        uint8: new Uint8Array([1]),
        bool: new Uint8Array([1]),
        bfloat16: new Float32Array([1]),
        float8_e5m2: new Float32Array([1]),
      };
      for (const [dtype, array] of Object.entries(kinds)) {
        expect(tensor([1], { dtype: dtype as DType }).toTypedArray()).toEqual(array);
      }
    });
  });

  test.each(DTYPES.filter(isFloating))('%s holds infinities or their largest, and NaN', (dtype) => {
    scope(() => {
      expect(tensor(NaN, { dtype }).item()).toBeNaN();
      if (dtype !== 'float8_e4m3fn') expect(tensor(-Infinity, { dtype }).item()).toBe(-Infinity);
    });
  });
});

describe('reading back', () => {
  test('of views, of tensors with a graph, of empty ones, of large ones', () => {
    scope(() => {
      const x = tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]).requiresGrad_();
      expect(x.transpose(0, 1).toArray()).toEqual([
        [1, 4],
        [2, 5],
        [3, 6],
      ]);
      expect(x.mul(2).toTypedArray()).toEqual(new Float32Array([2, 4, 6, 8, 10, 12]));
      expect(zeros([2, 0, 3]).toArray()).toEqual([[], []]);
      expect(zeros([0]).toTypedArray()).toEqual(new Float32Array(0));
      const large = ones([100_000]).cumsum(0, { dtype: 'float64' });
      expect((large.toTypedArray() as Float64Array)[99_999]).toBe(100_000);
      expect(large.toBytes()).toHaveLength(800_000);
    });
  });

  test('does not share memory with the tensor or an earlier reading', () => {
    scope(() => {
      const x = tensor([1, 2]);
      const [first, second] = [x.toTypedArray(), x.toTypedArray()];
      first[0] = 7;
      expect([second[0], x.toArray()]).toEqual([1, [1, 2]]);
    });
  });

  test('item() of booleans and large integers', () => {
    scope(() => {
      expect(tensor(true).item()).toBe(1);
      expect(tensor([2 ** 53 - 1], { dtype: 'int64' }).item()).toBe(2 ** 53 - 1);
      const large = tensor(new BigInt64Array([2n ** 60n]));
      expect(() => large.item()).toThrow(code('E_UNSAFE_INTEGER'));
      expect(large.toTypedArray()[0]).toBe(2n ** 60n);
      const least = tensor(new BigInt64Array([-(2n ** 63n)]));
      expect(() => least.item()).toThrow(code('E_UNSAFE_INTEGER'));
      expect(tensor([1 - 2 ** 53], { dtype: 'int64' }).item()).toBe(1 - 2 ** 53);
      expect(() => tensor(new BigUint64Array([2n ** 63n])).item()).toThrow(
        code('E_UNSAFE_INTEGER'),
      );
      expect(() => tensor([1, 2]).item()).toThrow(code('E_SHAPE'));
    });
  });
});

describe('printing', () => {
  test('shows dtype, shape, device and a few values', () => {
    scope(() => {
      const x = tensor([
        [0.1, -0, 1 / 3, 1e-9],
        [NaN, Infinity, 123456.789, 8],
      ]);
      expect(String(x)).toBe(
        'Tensor float32[2, 4] cpu: 0.1, -0, 0.33333, 1e-9, NaN, Infinity, ...',
      );
      expect(inspect({ x: x.to('int32').narrow(1, 0, 1) })).toBe(
        '{ x: Tensor int32[2, 1] cpu: 0, -2147483648 }',
      );
      expect(String(ones([3, 2, 4]).cumsum(1).transpose(0, 1))).toBe(
        'Tensor float32[2, 3, 4] cpu: 1, 1, 1, 1, 1, 1, ...',
      );
      expect(String(tensor([[1], [2], [3]]).transpose(0, 1))).toBe(
        'Tensor float32[1, 3] cpu: 1, 2, 3',
      );
      expect(String(tensor(2.5))).toBe('Tensor float32[] cpu: 2.5');
      expect(String(zeros([0, 3]))).toBe('Tensor float32[0, 3] cpu');
      expect(String(empty([2], { device: 'meta' }))).toBe('Tensor float32[2] meta');
      expect(JSON.stringify({ x: tensor([1]) })).toBe('{"x":"Tensor float32[1] cpu: 1"}');
      expect(String(ones([2]).requiresGrad_().mul(2))).toBe('Tensor float32[2] cpu: 2, 2');
    });
  });

  test('works on disposed tensors and on freed storage, and leaks nothing', () => {
    expect(() => {
      const x = ones([3]);
      inspect(x);
      x.resizeStorage(0);
      expect(String(x)).toBe('Tensor float32[3] cpu');
      x.dispose();
      expect(inspect(x)).toBe('Tensor(disposed)');
    }).toLeakNothing();
  });
});

describe('storage', () => {
  test('freed and refilled in place: views, graph and version counter stay', () => {
    scope(() => {
      const x = tensor([1, 2, 3]).requiresGrad_();
      const w = tensor([4, 5, 6]);
      const view = w.narrow(0, 1, 2);
      const y = x.mul(w).mul(w);
      const { version } = w;
      const bytes = w.storageBytes;
      w.resizeStorage(0);
      expect([w.storageBytes, view.storageBytes, w.shape]).toEqual([0, 0, [3]]);
      w.resizeStorage(bytes);
      w.overwrite(tensor([4, 5, 6]));
      expect(w.version).toBe(version);
      expect(view.toArray()).toEqual([5, 6]);
      expect(grad([y], [x], [ones([3])])[0]!.toArray()).toEqual([16, 25, 36]);
    });
  });

  test('reading, computing with and writing freed memory are errors; looking at shapes is not', () => {
    scope(() => {
      const x = ones([2, 3]);
      x.resizeStorage(0);
      const freed = code('E_STORAGE');
      expect(() => x.add(1)).toThrow(freed);
      expect(() => ones([2, 3]).mul(x.view([2, 3]))).toThrow(freed);
      expect(() => x.zero_()).toThrow(freed);
      expect(() => x.toArray()).toThrow(freed);
      expect(() => x.select(0, 0).select(0, 0).item()).toThrow(freed);
      expect(() => x.overwrite(ones([2, 3]))).toThrow(freed);
      expect(x.detach().view([6]).shape).toEqual([6]);
      x.resizeStorage(24).zero_();
      expect(x.toArray()).toEqual([
        [0, 0, 0],
        [0, 0, 0],
      ]);
    });
  });

  test('refuses sizes that make no sense, and memory that is not libtorch’s', () => {
    scope(() => {
      const x = ones([4]);
      expect(() => x.resizeStorage(-1)).toThrow(code('E_ARGUMENT'));
      expect(() => x.resizeStorage(NaN)).toThrow(code('E_ARGUMENT'));
      expect(() => x.resizeStorage(8)).toThrow(code('E_EXTENT'));
      expect(x.toArray()).toEqual([1, 1, 1, 1]);
      expect(() => fromBytes(new Uint8Array(8), [2], 'float32').resizeStorage(0)).toThrow(
        code('E_STORAGE'),
      );
    });
  });
});

describe('life', () => {
  afterEach(() => traceTensors(false));

  test('use after dispose and disposing twice are errors', () => {
    const x = ones([2]);
    const y = ones([2]);
    x.dispose();
    expect(x.isDisposed).toBe(true);
    expect(() => x.add(1)).toThrow(
      expect.objectContaining({
        name: 'DisposedError',
        code: 'E_DISPOSED',
        message: "add.Scalar(): argument 'self': the tensor was disposed",
      }),
    );
    expect(() => y.add(x)).toThrow(/argument 'other'/);
    expect(() => x.shape).toThrow(code('E_DISPOSED'));
    expect(() => x.toArray()).toThrow(code('E_DISPOSED'));
    expect(() => x.keep()).toThrow(code('E_DISPOSED'));
    expect(() => x.dispose()).toThrow(/disposed already/);
    y.dispose();
  });

  test('a handle does not come back to life when its slot is given to another tensor', () => {
    const x = ones([2]);
    const { handle } = x;
    x.dispose();
    const y = ones([2]);
    x.handle = handle;
    expect(() => x.add(1)).toThrow(/the tensor was disposed/);
    x.handle = -1;
    y.dispose();
  });

  test('with tracing the error names where the tensor was made and disposed', () => {
    traceTensors(true);
    const x = ones([2]);
    expect(liveSites().at(-1)).toMatch(/tensor\.test\.ts:\d+/);
    x.dispose();
    const made = /made at .*tensor\.test\.ts:\d+:\d+\)?, disposed at .*tensor\.test\.ts/;
    expect(() => x.add(1)).toThrow(made);
    expect(() => x.dispose()).toThrow(made);
    expect(() => x.shape).toThrow(made);
    expect(liveSites()).toEqual([]);
  });

  test('a clone for another thread is refused', () => {
    scope(() => {
      const x = ones([2]);
      const refused: unknown = expect.objectContaining({ name: 'ThreadError', code: 'E_THREAD' });
      expect(() => structuredClone(x)).toThrow(refused);
      expect(() => structuredClone({ list: [x] })).toThrow(refused);
      const { port1, port2 } = new MessageChannel();
      expect(() => port1.postMessage(x)).toThrow(refused);
      port1.close();
      port2.close();
    });
  });
});

describe('to()', () => {
  test('converts and gives itself where nothing changes', () => {
    scope(() => {
      const x = ones([2]);
      expect(x.to('float32')).toBe(x);
      expect(x.to('cpu')).toBe(x);
      expect(x.to({})).toBe(x);
      expect(x.to({ dtype: 'int8', device: 'meta' })).toMatchObject({
        dtype: 'int8',
        device: 'meta',
      });
      expect(x.to('float64').dtype).toBe('float64');
      expect(() => x.to('float33' as DType)).toThrow(code('E_DEVICE'));
      expect(() => x.to({ dtype: 'float33' as DType })).toThrow(code('E_ARGUMENT'));
    });
  });
});
