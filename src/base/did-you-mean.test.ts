import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { didYouMean, editDistance } from './did-you-mean.js';

describe('didYouMean', () => {
  it('finds the nearest candidate', () => {
    const kinds = ['llava', 'pickle', 'encode', 'pixels', 'train'];
    expect(didYouMean('pixel', kinds)).toBe('pixels');
    expect(didYouMean('Trian', kinds)).toBe('train');
    expect(didYouMean('lava', kinds)).toBe('llava');
  });

  it('stays silent where nothing is near', () => {
    expect(didYouMean('banana', ['llava', 'train'])).toBeUndefined();
    expect(didYouMean('', ['llava'])).toBeUndefined();
    expect(didYouMean('llava', [])).toBeUndefined();
  });
});

describe('editDistance', () => {
  it('counts the four edits', () => {
    expect(editDistance('train', 'train')).toBe(0);
    expect(editDistance('train', 'trains')).toBe(1);
    expect(editDistance('train', 'rain')).toBe(1);
    expect(editDistance('train', 'brain')).toBe(1);
    expect(editDistance('train', 'tarin')).toBe(1);
    expect(editDistance('', 'abc')).toBe(3);
  });

  it('is symmetric, and zero only for equal words', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
        expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});
