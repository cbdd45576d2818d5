import { expect, test } from 'vitest';

import { PickleStorage, PickleTensor, PickleTuple } from '../src/formats/pickle/values.js';
import { describeContent } from './pickle-content.js';

test("the path of a tensor spells texts within a tuple's key as Python's repr does", () => {
  const storage = new PickleStorage('0', 'F32', 4);
  storage.place = { offset: 0 };
  const tensor = new PickleTensor('F32', [1], [1], 0, storage, false, false);
  const texts = ['x', "it's", `a'b"\\`, '\n\x7f\xa0é\u2028\u{e0001}😀 '];
  const { tensors } = describeContent(new Map([[new PickleTuple([1n, ...texts]), tensor]]), 'f');
  expect([...tensors.keys()]).toEqual([
    String.raw`(1, 'x', "it's", 'a\'b"\\', '\n\x7f\xa0é\u2028\U000e0001😀 ')`,
  ]);
});
