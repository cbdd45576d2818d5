import { describe, expect, it } from 'vitest';

import {
  callText,
  latestCalls,
  whoIsAstray,
  whoIsMissing,
  type GroupCall,
} from './who-is-missing.js';

const call = (index: number, what: string, label: string): GroupCall => ({ index, what, label });

it('reads of a group what was written of it', () => {
  const here = [
    call(17, 'all-reduce of 4 float32', 'block 3'),
    call(16, 'barrier', ''),
    call(15, 'all-gather of 8 bfloat16', 'block 2'),
  ];
  const state = `9\ngroup/world\t${callText(call(2, 'barrier', 'a\tb\nc'))}\ngroup/rows/0\t${callText(here[0]!, here.slice(1))}`;
  expect(latestCalls(state, 'group/rows/0')).toEqual(here);
  expect(latestCalls(state, 'group/world')).toEqual([call(2, 'barrier', 'a b c')]);
  expect(latestCalls(state, 'group/columns/0')).toEqual([]);
  expect(latestCalls('left', 'group/world')).toEqual([]);
});

describe('who is missing', () => {
  const mine = call(7, 'all-reduce of 4 float32', 'block 3');
  const next = call(8, 'barrier', 'end');

  it('are the ranks that are behind, whatever the others do', () => {
    const others = new Map([
      [0, [call(6, 'all-gather of 8 bfloat16', 'block 2')]],
      [2, [mine]],
      [3, []],
      [4, [call(7, 'barrier', 'end')]],
    ]);
    expect(whoIsMissing(mine, others)).toBe(
      "rank 0 has not called it (its last was call 6, all-gather of 8 bfloat16 for 'block 2'); " +
        'rank 3 has not called it (it has called nothing yet)',
    );
  });

  it('are else those that do something else', () => {
    const others = new Map([
      [1, [call(7, 'all-reduce of 8 float32', 'block 3')]],
      [2, [call(7, 'all-reduce of 4 float32', 'another name')]],
      [3, [next, mine]],
    ]);
    expect(whoIsMissing(mine, others)).toBe(
      "rank 1 calls something else as its call 7, all-reduce of 8 float32 for 'block 3'",
    );
  });

  it('are those that did something else and have gone on since', () => {
    const others = new Map([[1, [next, call(7, 'all-gather of 8 float32', 'block 4')]]]);
    const told =
      "rank 1 calls something else as its call 7, all-gather of 8 float32 for 'block 4' " +
      "and has gone on, without waiting, to call 8, barrier for 'end'";
    expect(whoIsAstray(mine, others)).toBe(told);
    expect(whoIsMissing(mine, others)).toBe(told);
  });

  it('may be those that have gone on so far that nobody knows what they did', () => {
    const others = new Map([[1, [call(20, 'barrier', 'end'), call(19, 'barrier', 'start')]]]);
    expect(whoIsAstray(mine, others)).toBeNull();
    expect(whoIsMissing(mine, others)).toBe(
      "rank 1 has gone on to call 20, barrier for 'end', without waiting: " +
        'either it called something else in its place, or the network or a device hangs',
    );
  });

  it('is nobody astray while one has yet to come so far', () => {
    const other = call(7, 'barrier', 'end');
    expect(whoIsAstray(mine, new Map([[1, [other]]]))).toMatch(/^rank 1 calls something else/);
    const behind = call(6, 'barrier', 'start');
    const both = new Map([
      [1, [other]],
      [2, [behind]],
    ]);
    expect(whoIsAstray(mine, both)).toBeNull();
    expect(whoIsAstray(mine, new Map([[1, [mine]]]))).toBeNull();
  });

  it('is else nobody', () => {
    for (const calls of [[mine], [next, mine]]) {
      expect(whoIsMissing(mine, new Map([[1, calls]]))).toBe(
        'all ranks have called it, so the network or a device hangs',
      );
    }
  });
});
