import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { withExactId } from './exact-id.js';

const read = (text: string) => withExactId(JSON.parse(text), text);

describe('an id', () => {
  it.each([
    ['12345678901234567890'],
    ['-9007199254740993'],
    ['1.0'],
    ['1e3'],
    ['-0'],
    ['true'],
    ['{"a": [1, 12345678901234567890], "id": 7}'],
    ['["}", "\\"]"]'],
  ])('is its text: %s', (id) => {
    const text = `{"a": {"id": 1}, "\\u0069d" : ${id} , "b": ["id", "\\\\", {"id": 2}]}`;
    expect(read(text)).toMatchObject({ json: { id, b: ['id', '\\', { id: 2 }] }, idText: id });
  });

  it.each([['7'], ['"7"'], ['null'], ['1.5'], ['9007199254740991']])('is its value: %s', (id) => {
    const text = `{"id":${id}}`;
    expect(read(text)).toEqual({ json: JSON.parse(text) as unknown });
  });

  it('of a record that has none, or is none', () => {
    expect(read('{"x":{"id":1e3}}')).toEqual({ json: { x: { id: 1000 } } });
    expect(read('[{"id":1e3}]')).toEqual({ json: [{ id: 1000 }] });
  });

  it('is the last of several', () => {
    expect(read('{"id":1e1,"id":1e2}').idText).toBe('1e2');
  });

  it('is found in whatever record', () => {
    const record = fc.dictionary(fc.string(), fc.jsonValue());
    fc.assert(
      fc.property(record, fc.bigInt(), fc.nat(3), (rest, id, indent) => {
        const others = Object.fromEntries(Object.entries(rest).filter(([name]) => name !== 'id'));
        const text = JSON.stringify({ ...others, id: 'the id' }, null, indent).replace(
          '"the id"',
          String(id),
        );
        const { json, idText } = read(text);
        const { id: read_, ...same } = json as Record<string, unknown>;
        expect(idText ?? String(read_)).toBe(String(id));
        expect(same).toEqual(JSON.parse(JSON.stringify(others)));
      }),
    );
  });
});
