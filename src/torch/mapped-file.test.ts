/** Mapped files: private, checked, copied only where they must be. */

import {
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { empty, liveTensors, MappedFile, memoryStats, scope, type DType } from './index.js';

const code = (value: string): unknown => expect.objectContaining({ code: value });

const folder = mkdtempSync(join(tmpdir(), 'patina-map-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
/** A file of the floats 0, 1, 2, ... */
function floats(length: number): string {
  const path = join(folder, `floats-${count++}.bin`);
  writeFileSync(path, Buffer.from(Float32Array.from({ length }, (_, i) => i).buffer));
  return path;
}

describe('tensors of a mapped file', () => {
  test('share its memory, with any shape and strides, and need no allocation', () => {
    scope(() => {
      using file = new MappedFile(floats(12));
      expect(file.size).toBe(48);
      const before = memoryStats('cpu').allocations;
      const x = file.tensor({ dtype: 'float32', shape: [2, 3], offset: 4 });
      const y = file.tensor({ dtype: 'float32', shape: [2, 2], strides: [6, 1], offset: 0 });
      expect(memoryStats('cpu').allocations).toBe(before);
      expect(x.toArray()).toEqual([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      expect(y.toArray()).toEqual([
        [0, 1],
        [6, 7],
      ]);
      expect(file.tensor({ dtype: 'int16', shape: [2], offset: 6 }).toArray()).toEqual([16256, 0]);
      expect(file.tensor({ dtype: 'float32', shape: [0], offset: 48 }).toArray()).toEqual([]);
    });
  });

  test('are copy-on-write: the file keeps what it holds', () => {
    const path = floats(4);
    scope(() => {
      using file = new MappedFile(path);
      const x = file.tensor({ dtype: 'float32', shape: [4], offset: 0 });
      x.add_(10);
      expect(x.toArray()).toEqual([10, 11, 12, 13]);
      expect(Array.from(new Float32Array(readFileSync(path).buffer.slice(0)))).not.toContain(13);
      file.check();
    });
    const content = readFileSync(path);
    expect(content.readFloatLE(12)).toBe(3);
  });

  test('outlive the file object', () => {
    expect(() => {
      scope(() => {
        const file = new MappedFile(floats(4));
        const x = file.tensor({ dtype: 'float32', shape: [4], offset: 0 });
        file.dispose();
        file.dispose();
        expect(x.toArray()).toEqual([0, 1, 2, 3]);
        expect(() => file.tensor({ dtype: 'float32', shape: [4], offset: 0 })).toThrow(
          code('E_DISPOSED'),
        );
        expect(() => file.check()).toThrow(code('E_DISPOSED'));
      });
    }).toLeakNothing();
  });

  test('at a misaligned offset are copied', () => {
    const path = join(folder, 'misaligned.bin');
    const bytes = Buffer.alloc(21);
    bytes.writeFloatLE(2.5, 3);
    bytes.writeFloatLE(-1, 7);
    bytes.writeDoubleLE(7, 11);
    writeFileSync(path, bytes);
    scope(() => {
      using file = new MappedFile(path);
      expect(file.tensor({ dtype: 'float32', shape: [2], offset: 3 }).toArray()).toEqual([2.5, -1]);
      expect(
        file.tensor({ dtype: 'float32', shape: [1, 1], strides: [1, 1], offset: 7 }).toArray(),
      ).toEqual([[-1]]);
      expect(file.tensor({ dtype: 'float64', shape: [1], offset: 11 }).toArray()).toEqual([7]);
    });
  });
});

describe('extents', () => {
  const beyond: [string, number[], number[] | undefined, number, string][] = [
    ['one element too many', [13], undefined, 0, 'E_EXTENT'],
    ['an offset that leaves too little', [12], undefined, 4, 'E_EXTENT'],
    ['an offset beyond the end', [1], undefined, 49, 'E_EXTENT'],
    ['a negative offset', [1], undefined, -4, 'E_EXTENT'],
    ['a fractional offset', [1], undefined, 0.5, 'E_EXTENT'],
    ['an offset beyond 2^53', [1], undefined, 2 ** 60, 'E_EXTENT'],
    ['no number as offset', [1], undefined, NaN, 'E_EXTENT'],
    ['strides that reach beyond', [2, 2], [11, 1], 0, 'E_EXTENT'],
    ['a product that overflows', [2 ** 40, 2 ** 40], undefined, 0, 'E_ARGUMENT'],
    ['bytes that overflow', [2 ** 52, 2 ** 10], undefined, 0, 'E_EXTENT'],
    ['a stride that overflows', [2 ** 20, 2], [2 ** 50, 1], 0, 'E_ARGUMENT'],
    ['a negative size', [-1], undefined, 0, 'E_ARGUMENT'],
    ['a negative stride', [2], [-1], 8, 'E_ARGUMENT'],
    ['too few strides', [2, 2], [1], 0, 'E_ARGUMENT'],
  ];
  test.each(beyond)('%s is refused', (_, shape, strides, offset, expected) => {
    using file = new MappedFile(floats(12));
    const before = liveTensors();
    expect(() =>
      file.tensor({
        dtype: 'float32',
        shape,
        offset,
        ...(strides === undefined ? {} : { strides }),
      }),
    ).toThrow(code(expected));
    expect(liveTensors()).toBe(before);
  });

  test('an unknown dtype is refused', () => {
    using file = new MappedFile(floats(1));
    expect(() => file.tensor({ dtype: 'f32' as DType, shape: [1], offset: 0 })).toThrow(
      code('E_ARGUMENT'),
    );
  });
});

describe('files', () => {
  test('that are missing, folders, empty', () => {
    expect(() => new MappedFile(join(folder, 'none.bin'))).toThrow(code('E_FILE'));
    expect(() => new MappedFile(folder)).toThrow(/not a regular file/);
    const path = join(folder, 'empty.bin');
    writeFileSync(path, '');
    using file = new MappedFile(path);
    expect(file.size).toBe(0);
    expect(() => file.tensor({ dtype: 'uint8', shape: [1], offset: 0 })).toThrow(code('E_EXTENT'));
  });

  test('behind a link are the file itself', () => {
    const link = join(folder, 'link.bin');
    symlinkSync(floats(2), link);
    using file = new MappedFile(link);
    expect(file.size).toBe(8);
  });

  test('that changed while mapped are refused', () => {
    const grown = floats(4);
    const cut = floats(4);
    const touched = floats(4);
    for (const [path, change] of [
      [grown, () => writeFileSync(grown, Buffer.alloc(64))],
      [cut, () => truncateSync(cut, 4)],
      [touched, () => utimesSync(touched, 1, 1)],
    ] as const) {
      using file = new MappedFile(path);
      change();
      expect(() => file.check()).toThrow(
        expect.objectContaining({ name: 'DataError', code: 'E_FILE_CHANGED' }),
      );
      expect(() => file.tensor({ dtype: 'float32', shape: [1], offset: 0 })).toThrow(
        code('E_FILE_CHANGED'),
      );
    }
  });
});

describe('prefetch', () => {
  test('reads a range on another thread', async () => {
    using file = new MappedFile(floats(1_000_000));
    await file.prefetch();
    await file.prefetch(8, 100);
    await file.prefetch(file.size, 0);
  });

  test('refuses what lies beyond the file, and names a file that was cut', async () => {
    const path = floats(1000);
    using file = new MappedFile(path);
    await expect(file.prefetch(0, 4001)).rejects.toThrow(code('E_EXTENT'));
    await expect(file.prefetch(-1)).rejects.toThrow(code('E_EXTENT'));
    truncateSync(path, 100);
    await expect(file.prefetch(0, 4000)).rejects.toThrow(
      expect.objectContaining({ code: 'E_FILE', message: expect.stringContaining(path) as string }),
    );
  });

  test('may outlive the file object', async () => {
    const file = new MappedFile(floats(100_000));
    const reading = file.prefetch();
    file.dispose();
    await reading;
    await expect(file.prefetch()).rejects.toThrow(code('E_DISPOSED'));
  });
});

describe('read', () => {
  test('fills a tensor on another thread, also one that is disposed meanwhile', async () => {
    using file = new MappedFile(floats(100_000));
    const whole = scope(() => empty([99_998]).keep());
    await file.read(whole, 8);
    expect(whole.narrow(0, 0, 2).toArray()).toEqual([2, 3]);
    expect(whole.narrow(0, 99_997, 1).toArray()).toEqual([99_999]);
    const reading = file.read(whole, 0);
    whole.dispose();
    await reading;
    using nothing = scope(() => empty([0]).keep());
    await file.read(nothing, file.size);
  });

  test('refuses what lies beyond the file, what is not dense, and a file that changed', async () => {
    const path = floats(1000);
    using file = new MappedFile(path);
    using small = scope(() => empty([2, 3]).keep());
    using large = scope(() => empty([1001]).keep());
    using turned = scope(() => small.transpose(0, 1).keep());
    using shape = scope(() => small.to({ device: 'meta' }).keep());
    await expect(file.read(small, 3980)).rejects.toThrow(code('E_EXTENT'));
    await expect(file.read(large, 0)).rejects.toThrow(code('E_EXTENT'));
    await expect(file.read(turned, 0)).rejects.toThrow(code('E_ARGUMENT'));
    await expect(file.read(shape, 0)).rejects.toThrow(code('E_ARGUMENT'));
    truncateSync(path, 100);
    await expect(file.read(small, 0)).rejects.toThrow(code('E_FILE_CHANGED'));
  });
});
