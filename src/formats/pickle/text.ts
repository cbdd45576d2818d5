/** The ways in which pickles write text and numbers as text (Python's `pickle` module, protocols 0 to 5). */

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** UTF-8 as Python's pickles use it: half surrogate pairs are allowed (`surrogatepass`). Undefined if malformed. */
export function decodeText(bytes: Uint8Array): string | undefined {
  let text = '';
  let done = 0;
  try {
    for (let at = bytes.indexOf(0xed); at >= 0; at = bytes.indexOf(0xed, at + 1)) {
      // ED A0..BF xx would be U+D800 to U+DFFF; strict UTF-8 stops at U+D7FF.
      const [second = 0, third = 0] = bytes.subarray(at + 1, at + 3);
      if (second < 0xa0 || second > 0xbf || third < 0x80 || third > 0xbf) continue;
      text += UTF8.decode(bytes.subarray(done, at));
      text += String.fromCharCode(0xd000 | ((second & 0x3f) << 6) | (third & 0x3f));
      done = at + 3;
    }
    return text + UTF8.decode(bytes.subarray(done));
  } catch {
    return undefined;
  }
}

/** Bytes as the characters U+0000 to U+00FF. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** `raw-unicode-escape` (opcode UNICODE): Latin-1 with `\uXXXX` and `\UXXXXXXXX`. Undefined if malformed. */
export function decodeRawUnicode(bytes: Uint8Array): string | undefined {
  let sound = true;
  const text = latin1(bytes).replace(/\\(u.{0,4}|U.{0,8}|[^uU]|$)/gs, (escape, body: string) => {
    if (!/^u/i.test(body)) return escape;
    const code = /^(u[\da-f]{4}|U[\da-f]{8})$/i.test(body) ? parseInt(body.slice(1), 16) : Infinity;
    sound &&= code <= 0x10ffff;
    return sound ? String.fromCodePoint(code) : '';
  });
  return sound ? text : undefined;
}

const ESCAPES: ReadonlyMap<string, number> = new Map([
  ['\\', 92],
  ["'", 39],
  ['"', 34],
  ['a', 7],
  ['b', 8],
  ['f', 12],
  ['n', 10],
  ['r', 13],
  ['t', 9],
  ['v', 11],
]);

/** A quoted Python 2 string (opcode STRING), its escapes undone. Undefined if malformed. */
export function decodeQuoted(line: Uint8Array): Uint8Array | undefined {
  const text = latin1(line);
  const inside = /^'(.*)'$|^"(.*)"$/s.exec(text);
  const body = inside?.[1] ?? inside?.[2];
  if (body === undefined) return undefined;
  let sound = true;
  const bytes = body.replace(/\\(x[\da-f]{2}|[0-7]{1,3}|.|$)/gis, (_, escape: string) => {
    const code = /^x.|^[0-7]/i.test(escape)
      ? parseInt(escape.replace('x', ''), escape.startsWith('x') ? 16 : 8) & 255
      : ESCAPES.get(escape);
    sound &&= code !== undefined;
    return String.fromCharCode(code ?? 0);
  });
  return sound ? Buffer.from(bytes, 'latin1') : undefined;
}

/** A decimal integer (opcodes INT and LONG); Python itself reads at most 4,300 digits. Undefined if it is none. */
export function parseInteger(text: string): bigint | undefined {
  return /^[+-]?\d{1,4300}$/.test(text) ? BigInt(text.replace(/^\+/, '')) : undefined;
}

/** A number as Python's `repr` writes it (opcode FLOAT). Undefined if it is none. */
export function parseFloatText(text: string): number | undefined {
  const special = /^([+-]?)(nan|inf|infinity)$/i.exec(text);
  if (special !== null) {
    const value = special[2]!.toLowerCase() === 'nan' ? NaN : Infinity;
    return special[1] === '-' ? -value : value;
  }
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined;
}

/** Two's complement, little-endian (opcodes LONG1 and LONG4). */
export function decodeLong(bytes: Uint8Array): bigint {
  if (bytes.length === 0) return 0n;
  const hex = Buffer.from(bytes).reverse().toString('hex');
  return BigInt.asIntN(bytes.length * 8, BigInt(`0x${hex}`));
}
