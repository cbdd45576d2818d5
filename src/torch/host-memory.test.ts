import { describe, expect, it } from 'vitest';
import { cudaAvailable, fromTypedArray, sendTo, tensor } from './index.js';

describe('sendTo', () => {
  it('is the tensor itself on the CPU', () => {
    const x = tensor([1, 2]);
    expect(sendTo(x, 'cpu')).toBe(x);
    x.dispose();
  });

  it('keeps shape and type on meta', () => {
    expect(() => {
      const x = tensor([[1, 2, 3]], { dtype: 'int64' });
      const sent = sendTo(x, 'meta');
      expect(sent).toMatchObject({ shape: [1, 3], dtype: 'int64', device: 'meta' });
      for (const each of [x, sent]) each.dispose();
    }).toLeakNothing();
  });

  it.skipIf(!cudaAvailable())(
    'sends what the memory held, though it is written again at once',
    () => {
      expect(() => {
        const values = Int32Array.from({ length: 1 << 20 }, (_, i) => i);
        const x = fromTypedArray(values, [1024, 1024]);
        const sent = sendTo(x, 'cuda:0');
        values.fill(-1);
        const back = sent.to('cpu');
        expect(sent).toMatchObject({ shape: [1024, 1024], dtype: 'int32', device: 'cuda:0' });
        expect((back.toTypedArray() as Int32Array).every((value, i) => value === i)).toBe(true);
        for (const each of [sent, back]) each.dispose();
        x.dispose();
      }).toLeakNothing();
    },
  );
});
