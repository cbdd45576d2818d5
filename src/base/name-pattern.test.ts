import fc from 'fast-check';
import { expect, test } from 'vitest';

import { matchesName } from './name-pattern.js';

test.each([
  ['a.b', 'a.b', true],
  ['a.b', 'axb', false],
  ['a.b', 'a.b.c', false],
  ['*.q_proj', 'model.layers.0.self_attn.q_proj', true],
  ['*.q_proj', 'q_proj', false],
  ['model.*', 'model.', true],
  ['model.*.weight', 'model.weight', false],
  ['*.0.*.weight', 'layers.0.mlp.up.weight', true],
  ['*', '', true],
  ['', 'a', false],
  ['a(b[c', 'a(b[c', true],
  ['a*', 'a\nb', true],
])('%j on %j is %s', (pattern, name, expected) => {
  expect(matchesName(pattern, name)).toBe(expected);
});

test('a pattern matches what its stars are replaced by, and without stars itself alone', () => {
  const plain = fc.string().map((text) => text.replaceAll('*', ''));
  fc.assert(
    fc.property(fc.array(plain, { minLength: 1 }), fc.string(), (pieces, filling) => {
      expect(matchesName(pieces.join('*'), pieces.join(filling))).toBe(true);
      expect(matchesName(pieces.join(''), `${pieces.join('')}x`)).toBe(false);
    }),
  );
});
