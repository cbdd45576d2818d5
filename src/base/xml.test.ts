import { expect, test } from 'vitest';
import { escapedXml } from './xml.js';

test('marks are escaped, and what XML cannot hold is left out', () => {
  expect(escapedXml(`<a href="x">'&\r\u0001\ud800`)).toBe(
    '&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#13;',
  );
  expect(escapedXml('是\t😀\n')).toBe('是\t😀\n');
});
