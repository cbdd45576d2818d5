import { expect, test } from 'vitest';
import { randn, scope, type Tensor } from '../torch/index.js';
import { asOne, laySideBySide } from './side-by-side.js';

const values = (tensors: readonly Tensor[]): unknown => tensors.map((each) => each.toArray());

test('matrices of their own become one piece of memory, which is seen as one', () => {
  scope(() => {
    const parts = [randn([2, 3]), randn([1, 3]), randn([4, 3])];
    const before = values(parts);
    expect(asOne(parts)).toBeNull();
    laySideBySide(parts);
    expect(values(parts)).toEqual(before);
    const one = asOne(parts)!;
    expect(one.shape).toEqual([7, 3]);
    parts[1]!.fill_(5);
    expect(one.narrow(0, 2, 1).toArray()).toEqual([[5, 5, 5]]);
    expect(asOne([parts[1]!, parts[0]!])).toBeNull();
    expect(asOne([parts[0]!, parts[2]!])).toBeNull();
    expect(asOne([parts[0]!])).toBe(parts[0]);
  });
});

test('what does not fit, or has its place already, stays where it is', () => {
  scope(() => {
    const buffer = randn([10]);
    const inBuffer = randn([2, 3]).setStorage_(buffer, 2, [2, 3], [3, 1]);
    for (const parts of [
      [randn([2, 3]), randn([2, 4])],
      [randn([2, 3]), randn([2, 3]).to('float64')],
      [randn([2, 3]), randn([3, 2]).transpose(0, 1)],
      [randn([2, 3]), randn([2, 3]).requiresGrad_()],
      [randn([2, 3]), inBuffer],
    ]) {
      const storages = parts.map((each) => each.storageId());
      laySideBySide(parts);
      expect(parts.map((each) => each.storageId())).toEqual(storages);
      expect(asOne(parts)).toBeNull();
    }
  });
});
