import { describe, expect, it } from 'vitest';

import {
  callText,
  latestCall,
  whoIsAstray,
  whoIsMissing,
  type LatestCall,
} from './who-is-missing.js';

const call = (index: number, what: string, label: string): LatestCall => ({ index, what, label });

it('reads of a group what was written of it', () => {
  const here = call(17, 'all-reduce of 4 float32', 'block 3');
  const state = `9\ngroup/world\t${callText(call(2, 'barrier', 'a\tb\nc'))}\ngroup/rows/0\t${callText(here)}`;
  expect(latestCall(state, 'group/rows/0')).toEqual(here);
  expect(latestCall(state, 'group/world')).toEqual(call(2, 'barrier', 'a b c'));
  expect(latestCall(state, 'group/columns/0')).toBeUndefined();
  expect(latestCall('left', 'group/world')).toBeUndefined();
});

describe('who is missing', () => {
  const mine = call(7, 'all-reduce of 4 float32', 'block 3');

  it('are the ranks that are behind, whatever the others do', () => {
    const others = new Map([
      [0, call(6, 'all-gather of 8 bfloat16', 'block 2')],
      [2, mine],
      [3, undefined],
      [4, call(7, 'barrier', 'end')],
    ]);
    expect(whoIsMissing(mine, others)).toBe(
      "rank 0 has not called it (its last was call 6, all-gather of 8 bfloat16 for 'block 2'); " +
        'rank 3 has not called it (it has called nothing yet)',
    );
  });

  it('are else those that do something else', () => {
    const others = new Map([
      [1, call(7, 'all-reduce of 8 float32', 'block 3')],
      [2, call(7, 'all-reduce of 4 float32', 'another name')],
      [3, call(8, 'barrier', 'end')],
    ]);
    expect(whoIsMissing(mine, others)).toBe(
      "rank 1 calls something else as its call 7, all-reduce of 8 float32 for 'block 3'",
    );
  });

  it('is nobody astray while one has yet to come so far', () => {
    const other = call(7, 'barrier', 'end');
    expect(whoIsAstray(mine, new Map([[1, other]]))).toMatch(/^rank 1 calls something else/);
    const behind = call(6, 'barrier', 'start');
    expect(
      whoIsAstray(
        mine,
        new Map([
          [1, other],
          [2, behind],
        ]),
      ),
    ).toBeNull();
    expect(whoIsAstray(mine, new Map([[1, mine]]))).toBeNull();
  });

  it('is else nobody', () => {
    expect(whoIsMissing(mine, new Map([[1, mine]]))).toBe(
      'all ranks have called it, so the network or a device hangs',
    );
  });
});
