import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { ArrayScanner, LineScanner, type Scanner, type Span } from './json-scan.js';

function scan(
  kind: new (found: (span: Span) => void) => Scanner,
  text: string,
  chunk = Infinity,
): Span[] {
  const spans: Span[] = [];
  const scanner = new kind((span) => spans.push(span));
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += chunk) {
    scanner.push(bytes.subarray(at, at + chunk));
  }
  scanner.end();
  return spans;
}

function values(text: string, spans: readonly Span[]): unknown[] {
  const bytes = Buffer.from(text);
  return spans.map(({ start, end }) => JSON.parse(bytes.toString('utf8', start, end)) as unknown);
}

const json = fc.oneof(
  fc.jsonValue(),
  fc.record({ value: fc.string({ unit: 'binary' }), 'k"\\': fc.array(fc.string()) }),
);
const chunk = fc.integer({ min: 1, max: 40 });

describe('records in a stream of JSON', () => {
  it('are found in an array, however it is written and cut into chunks', () => {
    fc.assert(
      fc.property(
        fc.array(json),
        fc.constantFrom(undefined, 1, '\t'),
        chunk,
        (list, space, size) => {
          const text = `\n ${JSON.stringify(list, null, space)}\n`;
          expect(values(text, scan(ArrayScanner, text, size))).toEqual(JSON.parse(text));
        },
      ),
    );
  });

  it('are found on the lines of JSON Lines, blank ones passed over', () => {
    const blank = fc.constantFrom('', ' ', '\r', '\t');
    fc.assert(
      fc.property(fc.array(fc.tuple(json, blank)), fc.boolean(), chunk, (list, ends, size) => {
        const lines = list.flatMap(([value, filler]) => [JSON.stringify(value), filler]);
        const text = lines.join('\n') + (ends ? '\n' : '');
        const spans = scan(LineScanner, text, size);
        const written = list.map(([value]) => JSON.parse(JSON.stringify(value)) as unknown);
        expect(values(text, spans)).toEqual(written);
        expect(spans.map(({ line }) => line)).toEqual(list.map((_, i) => 2 * i + 1));
      }),
    );
  });

  it('know their lines', () => {
    const spans = scan(ArrayScanner, '[\n{"a": "\\n"},\n\n  7,\n[\n1]]');
    expect(spans.map(({ line }) => line)).toEqual([2, 4, 5]);
  });

  it.each([
    ['[{"a": 1}', 'the file ends inside of record 1: a part of it is missing'],
    ['[{"a": 1},{"b', 'the file ends inside of record 2: a part of it is missing'],
    ['[', 'the file ends before its closing ]'],
    ['[1,', 'the file ends before its closing ]'],
    ['[1,\n]', 'line 2 has something where a record should begin'],
    ['[,1]', 'line 1 has something where a record should begin'],
    ['[1}', 'line 1 has something that closes nothing'],
    ['[1]\n[2]', 'line 2 has something after the array'],
    ['[1]],', 'line 1 has something after the array'],
  ])('fail for %j', (text, message) => {
    expect(() => scan(ArrayScanner, text)).toThrow(message);
  });
});
