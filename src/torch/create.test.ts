/** Tensors from JavaScript values: shared memory, copies, and what is refused. */

import { describe, expect, test } from 'vitest';
import { fromBytes, fromTypedArray, scope, tensor, type DType } from './index.js';

const code = (value: string): unknown => expect.objectContaining({ code: value });

describe('fromTypedArray', () => {
  test('shares memory: writes are seen on both sides', () => {
    scope(() => {
      const array = new Float32Array([1, 2, 3, 4, 5, 6]);
      const x = fromTypedArray(array, [2, 3]);
      array[5] = 60;
      x.select(0, 0).add_(9);
      expect(x.toArray()).toEqual([
        [10, 11, 12],
        [4, 5, 60],
      ]);
      expect(Array.from(array)).toEqual([10, 11, 12, 4, 5, 60]);
    });
  });

  test('takes part of a buffer, and a Buffer as any dtype', () => {
    scope(() => {
      const { buffer } = new Float32Array([0, 1, 2, 3]);
      const x = fromTypedArray(new Float32Array(buffer, 4, 2));
      expect(x.toArray()).toEqual([1, 2]);
      const bytes = Buffer.alloc(8);
      bytes.writeInt16LE(-5, 2);
      expect(fromTypedArray(bytes).dtype).toBe('uint8');
      expect(fromTypedArray(bytes, [4], 'int16').toArray()).toEqual([0, -5, 0, 0]);
      expect(fromTypedArray(bytes, [2], 'int16').toArray()).toEqual([0, -5]);
      expect(fromTypedArray(new Float32Array(0)).shape).toEqual([0]);
    });
  });

  test('keeps the memory alive as long as the tensor, and keeps it from being moved', () => {
    scope(() => {
      const x = fromTypedArray(new Float32Array(1000).fill(3));
      const { port1, port2 } = new MessageChannel();
      const array = new Float32Array(2);
      const y = fromTypedArray(array);
      try {
        port1.postMessage(null, [array.buffer]); // throws from Node 21 on, copies before
      } catch (error) {
        expect(error).toBeInstanceOf(DOMException);
      }
      expect(array.byteLength).toBe(8);
      port1.close();
      port2.close();
      expect([x.sum(null).item(), y.sum(null).item()]).toEqual([3000, 0]);
    });
  });

  test('refuses shapes beyond the memory, misalignment, shared and resizable memory', () => {
    scope(() => {
      const array = new Float32Array(6);
      expect(() => fromTypedArray(array, [7])).toThrow(code('E_EXTENT'));
      expect(() => fromTypedArray(array, [2 ** 40, 2 ** 40])).toThrow(code('E_ARGUMENT'));
      expect(() => fromTypedArray(array, [-1])).toThrow(code('E_ARGUMENT'));
      expect(() => fromTypedArray(array, [1.5])).toThrow(code('E_ARGUMENT'));
      expect(() => fromTypedArray(array, [NaN])).toThrow(code('E_ARGUMENT'));
      expect(() => fromTypedArray(array, [1], 'float7' as DType)).toThrow(code('E_ARGUMENT'));
      expect(() => fromTypedArray(new Uint8Array(9).subarray(1), [2], 'float32')).toThrow(
        code('E_EXTENT'),
      );
      const shared = new Float32Array(new SharedArrayBuffer(8));
      expect(() => fromTypedArray(shared)).toThrow(code('E_ARGUMENT'));
      const Resizable = ArrayBuffer as unknown as new (
        length: number,
        options: { maxByteLength: number },
      ) => ArrayBuffer;
      expect(() =>
        fromTypedArray(new Float32Array(new Resizable(8, { maxByteLength: 16 }))),
      ).toThrow(code('E_ARGUMENT'));
      expect(() => fromTypedArray([1, 2] as unknown as Float32Array)).toThrow(code('E_ARGUMENT'));
      expect(() =>
        fromTypedArray(new DataView(new ArrayBuffer(8)) as unknown as Float32Array),
      ).toThrow(code('E_ARGUMENT'));
    });
  });
});

describe('tensor', () => {
  test('copies numbers, booleans and nested arrays', () => {
    scope(() => {
      expect(tensor(2)).toMatchObject({ shape: [], dtype: 'float32' });
      expect(
        tensor([
          [1, 2],
          [3, 4],
        ]).toArray(),
      ).toEqual([
        [1, 2],
        [3, 4],
      ]);
      expect(tensor([[], []]).shape).toEqual([2, 0]);
      expect(tensor([true, false], { dtype: 'bool' }).toArray()).toEqual([1, 0]);
      expect(tensor(true).dtype).toBe('bool');
      expect(tensor([1, 2], { dtype: 'int8', device: 'meta' })).toMatchObject({
        dtype: 'int8',
        device: 'meta',
      });
    });
  });

  test('copies typed arrays, Buffers too', () => {
    scope(() => {
      const source = Buffer.from([1, 2, 3]);
      const x = tensor(source);
      source[0] = 9;
      expect(x).toMatchObject({ dtype: 'uint8', shape: [3] });
      expect(x.toArray()).toEqual([1, 2, 3]);
      const shared = new Int32Array(new SharedArrayBuffer(8));
      expect(tensor(shared).dtype).toBe('int32');
      expect(tensor(new BigInt64Array([2n ** 62n]), { dtype: 'float64' }).item()).toBe(2 ** 62);
    });
  });

  test('refuses ragged arrays and what is no number', () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(code('E_SHAPE'));
    expect(() => tensor([1, [2]])).toThrow(code('E_SHAPE'));
    expect(() => tensor(['1'] as unknown as number[])).toThrow(code('E_SHAPE'));
    expect(() => tensor(new DataView(new ArrayBuffer(8)) as unknown as Float32Array)).toThrow(
      code('E_ARGUMENT'),
    );
  });

  test('leaks nothing', () => {
    expect(() => {
      tensor([1, 2]).dispose();
      tensor([1, 2], { dtype: 'float64' }).dispose();
      expect(() => tensor([1, 2], { dtype: 'float33' as DType })).toThrow(code('E_ARGUMENT'));
    }).toLeakNothing();
  });
});

test('fromBytes copies raw bytes and checks their number', () => {
  scope(() => {
    const bytes = new Uint8Array([0, 0, 0x80, 0x3f, 0, 0]);
    const x = fromBytes(bytes.subarray(0, 4), [1], 'float32');
    bytes[3] = 0;
    expect(x.toArray()).toEqual([1]);
    expect(fromBytes(Buffer.from([1, 0, 2, 0]).subarray(2), [1], 'int16').toArray()).toEqual([2]);
    expect(() => fromBytes(bytes, [1], 'float32')).toThrow(code('E_SHAPE'));
  });
});
