import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { nativeLibrary } from '../../base/native-path.js';
import { cases } from '../../base/testing.js';
import { fitImage } from './fit.js';
import type { FitMode } from './fit.js';
import { CLIP_BACKGROUND } from './normalise.js';
import type { RgbImage } from './rgb-image.js';

/** A picture of noise and flats, so that the filter overshoots; the same for the same seed. */
function picture(width: number, height: number, seed = 1): RgbImage {
  const data = new Uint8Array(3 * width * height);
  let state = seed;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    data[i] = (state >>> 16) % 3 === 0 ? 255 : (state >>> 16) % 3 === 1 ? 0 : (state >>> 20) & 255;
  }
  return { width, height, data };
}

/** First input and 22-bit weights of every output of Pillow's bicubic filter, as its documentation describes it. */
function taps(inputs: number, outputs: number): { first: number; weights: number[] }[] {
  const scale = inputs / outputs;
  const filterScale = Math.max(scale, 1);
  const cubic = (distance: number) => {
    const x = Math.abs(distance);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
  };
  return Array.from({ length: outputs }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - 2 * filterScale + 0.5), 0);
    const end = Math.min(Math.trunc(centre + 2 * filterScale + 0.5), inputs);
    const values = Array.from({ length: end - first }, (_, k) =>
      cubic((first + k - centre + 0.5) * (1 / filterScale)),
    );
    const total = values.reduce((sum, value) => sum + value, 0);
    const weights = values.map((value) => {
      const weight = value / total;
      return Math.trunc(weight * 2 ** 22 + (weight < 0 ? -0.5 : 0.5));
    });
    return { first, weights };
  });
}

/** The oracle: pad, resize whole, crop, pixel by pixel. */
function slowFit(image: RgbImage, size: number, mode: FitMode): Uint8Array {
  const long = Math.max(image.width, image.height);
  const [width, height] = mode === 'pad' ? [long, long] : [image.width, image.height];
  const left = Math.floor((width - image.width) / 2);
  const top = Math.floor((height - image.height) / 2);
  const at = (x: number, y: number, c: number) => {
    const [u, v] = [x - left, y - top];
    return u >= 0 && u < image.width && v >= 0 && v < image.height
      ? image.data[3 * (v * image.width + u) + c]!
      : CLIP_BACKGROUND[c]!;
  };
  const toByte = (sum: number) => Math.min(Math.max((sum + 2 ** 21) >> 22, 0), 255);
  const short = Math.min(width, height);
  const fitted = (side: number): number =>
    mode === 'squeeze' ? size : Math.trunc((size * side) / short);
  const [wide, high] = [fitted(width), fitted(height)];
  const across = taps(width, wide)
    .slice(Math.floor((wide - size) / 2))
    .slice(0, size);
  const down = taps(height, high)
    .slice(Math.floor((high - size) / 2))
    .slice(0, size);
  const rows = Array.from({ length: height }, (_, y) =>
    across.map(({ first, weights }) =>
      [0, 1, 2].map((c) => toByte(weights.reduce((s, w, k) => s + w * at(first + k, y, c), 0))),
    ),
  );
  return Uint8Array.from(
    down.flatMap(({ first, weights }) =>
      across.flatMap((_, x) =>
        [0, 1, 2].map((c) =>
          toByte(weights.reduce((s, w, k) => s + w * rows[first + k]![x]![c]!, 0)),
        ),
      ),
    ),
  );
}

describe('fitImage', () => {
  it('equals padding, resizing and cropping pixel by pixel, for any shape', () => {
    const side = fc.integer({ min: 1, max: 40 });
    const mode = fc.constantFrom<FitMode>('pad', 'crop', 'squeeze');
    const size = fc.integer({ min: 1, max: 30 });
    fc.assert(
      fc.property(side, side, size, mode, fc.nat(), (width, height, size, mode, seed) => {
        const image = picture(width, height, seed);
        const fitted = fitImage(image, { size, mode });
        expect(fitted).toMatchObject({ width: size, height: size });
        expect(Buffer.from(fitted.data).equals(slowFit(image, size, mode))).toBe(true);
      }),
      { numRuns: cases(40) },
    );
  });

  it('does not touch an image of the right size', () => {
    const image = picture(56, 56);
    for (const mode of ['pad', 'crop', 'squeeze'] as const) {
      expect(fitImage(image, { size: 56, mode }).data).toEqual(image.data);
    }
  });

  it('pads with the background asked for', () => {
    const image = { width: 1, height: 3, data: new Uint8Array(9).fill(255) };
    const { data } = fitImage(image, { size: 3, mode: 'pad', background: [1, 2, 3] });
    const row = [1, 2, 3, 255, 255, 255, 1, 2, 3];
    expect([...data]).toEqual([...row, ...row, ...row]);
  });

  it('makes only the window of a strip that the reference resizes to 336 x 22,019,760', () => {
    const image = picture(1, 65_535);
    const { data } = fitImage(image, { size: 336, mode: 'crop' });
    // 336 rows lie within three pixels of the strip, and a row is one colour.
    expect(data.subarray(0, 3)).toEqual(data.subarray(333, 336));
  });

  it('keeps a flat colour flat, in any scale', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 300 }),
        fc.nat(255),
        (width, height, value) => {
          const image = { width, height, data: new Uint8Array(3 * width * height).fill(value) };
          const { data } = fitImage(image, { size: 32, mode: 'crop' });
          expect(data.every((byte) => byte === value)).toBe(true);
        },
      ),
      { numRuns: cases(10) },
    );
  });

  it('refuses what does not fit, naming the values', () => {
    const image = picture(4, 3);
    const fit = (change: object, options: object = {}) =>
      fitImage({ ...image, ...change }, { size: 8, mode: 'pad', ...options });
    const usage = (message: string) =>
      expect.objectContaining({
        code: 'E_IMAGE_FIT',
        message: expect.stringContaining(message) as string,
      }) as Error;
    expect(() => fit({ width: 5 })).toThrow(usage('5 x 3 pixels cannot have 36 bytes'));
    expect(() => fit({ width: 0, data: new Uint8Array() })).toThrow(usage('0 x 3'));
    expect(() => fit({ width: 1.5, height: 8 })).toThrow(usage('1.5 x 8'));
    expect(() => fit({}, { size: 0 })).toThrow(usage('not 0'));
    expect(() => fit({}, { size: 2.5 })).toThrow(usage('not 2.5'));
    expect(() => fit({}, { size: 100_000 })).toThrow(usage('not 100000'));
    expect(() => fit({}, { background: [0, 0, 256] })).toThrow(usage('0, 0, 256'));
  });
});

describe('the native library', () => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { resize } = require(workerData.path);
    const target = new Uint8Array(3 * 112 * 112);
    for (let i = 0; i < 20; i++) {
      target.fill(0);
      resize(workerData.data, target, Float64Array.from(workerData.numbers));
    }
    parentPort.postMessage(target);`;
  const numbers = [300, 200, 300, 300, 0, 50, 112, 112, 0, 0, 112, 112, ...CLIP_BACKGROUND];

  it('gives the same bytes in several worker threads at once', async () => {
    const image = picture(300, 200);
    const expected = fitImage(image, { size: 112, mode: 'pad' }).data;
    const path = nativeLibrary('pixels');
    const results = await Promise.all(
      [1, 2, 3, 4].map(
        () =>
          new Promise<Uint8Array>((resolve, reject) => {
            const workerData = { path, numbers, data: image.data };
            const worker = new Worker(source, { eval: true, workerData });
            worker.once('message', resolve).once('error', reject);
          }),
      ),
    );
    for (const result of results) expect(Buffer.from(result).equals(expected)).toBe(true);
  });

  it('gives the same bytes without vector instructions', () => {
    const { resize, resizePortable } = createRequire(import.meta.url)(nativeLibrary('pixels')) as {
      [name in 'resize' | 'resizePortable']: (...args: unknown[]) => void;
    };
    const side = fc.integer({ min: 1, max: 70 });
    const place = fc.nat(9);
    const resized = fc.integer({ min: 1, max: 90 });
    fc.assert(
      fc.property(side, side, place, place, resized, resized, (width, height, x, y, wide, high) => {
        const { data } = picture(width, height, 7 * width + height);
        const canvas = [width + 2 * x, height + 9];
        const corner = [Math.floor(wide / 3), Math.floor(high / 4)] as const;
        const window = [wide - corner[0], Math.ceil((high - corner[1]) / 2)] as const;
        const numbers = [width, height, canvas, x, y, wide, high, corner, window, 9, 99, 199];
        const call = (resize: (...args: unknown[]) => void) => {
          const target = new Uint8Array(3 * window[0] * window[1]);
          resize(data, target, Float64Array.from(numbers.flat()));
          return Buffer.from(target);
        };
        expect(call(resize).equals(call(resizePortable))).toBe(true);
      }),
      { numRuns: cases(100) },
    );
  });

  it('throws rather than reading or writing out of bounds', () => {
    const { resize } = createRequire(import.meta.url)(nativeLibrary('pixels')) as {
      resize: (...args: unknown[]) => void;
    };
    const data = new Uint8Array(3 * 300 * 200);
    const target = new Uint8Array(3 * 112 * 112);
    const call = (change: Record<number, number>) => () =>
      resize(data, target, Float64Array.from(numbers.map((n, i) => change[i] ?? n)));
    expect(call({})).not.toThrow();
    for (const change of [
      { 0: 301 },
      { 1: 0 },
      { 2: 299 },
      { 5: 101 },
      { 5: -1 },
      { 6: 111 },
      { 8: 1 },
      { 9: -1 },
      { 10: 113 },
      { 0: NaN },
      { 6: Infinity, 8: 1e300 },
    ]) {
      expect(call(change), JSON.stringify(change)).toThrow(RangeError);
    }
    expect(() => resize(data, target, [1])).toThrow(TypeError);
    expect(() => resize('x', target, Float64Array.from(numbers))).toThrow(TypeError);
    expect(() => resize()).toThrow(TypeError);
  });
});
