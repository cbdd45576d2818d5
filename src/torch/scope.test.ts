/** Scopes, holdings, the finalizer behind them, and the matcher that finds leaks. */

import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import {
  hold,
  liveTensors,
  ones,
  scope,
  scopeAsync,
  tensor,
  TENSORS,
  tensorsIn,
  threads,
  type Tensor,
} from './index.js';

describe('synchronous scopes', () => {
  test('free what is made inside, and keep what is returned', () => {
    expect(() => {
      let inner: Tensor | undefined;
      const kept = scope(() => {
        inner = ones([2]);
        return inner.add(1);
      });
      expect(inner!.isDisposed).toBe(true);
      expect(kept.toArray()).toEqual([2, 2]);
      kept.dispose();
    }).toLeakNothing();
  });

  test('keep the tensors of a returned structure, however nested', () => {
    expect(() => {
      const cycle: Record<string, unknown> = {};
      const result = scope(() => {
        const [a, b, c, d, e] = [1, 2, 3, 4, 5].map((value) => tensor(value));
        cycle['self'] = cycle;
        cycle['a'] = a;
        const holder = { [TENSORS]: () => [e!] };
        return { list: [b, [c]], map: new Map([['d', d]]), set: new Set([holder]), cycle };
      });
      const kept = [...tensorsIn(result)];
      expect(kept.map((t) => t.item()).toSorted()).toEqual([1, 2, 3, 4, 5]);
      for (const t of kept) t.dispose();
    }).toLeakNothing();
  });

  test('leave what was made outside alone', () => {
    const outside = ones([2]);
    expect(scope(() => outside)).toBe(outside);
    scope(() => outside.add(1));
    expect(outside.isDisposed).toBe(false);
    outside.dispose();
  });

  test('nest: what an inner one returns belongs to the outer one', () => {
    expect(() => {
      scope(() => {
        const middle = scope(() => scope(() => ones([1])));
        expect(middle.item()).toBe(1);
      });
    }).toLeakNothing();
  });

  test('free everything when an exception leaves them', () => {
    expect(() => {
      expect(() =>
        scope(() => {
          ones([2]);
          scope(() => {
            ones([2]);
            throw new Error('stop');
          });
        }),
      ).toThrow('stop');
    }).toLeakNothing();
    const after = ones([1]);
    expect(after.scope).toBeNull();
    after.dispose();
  });

  test('allow disposing early, in any order', () => {
    expect(() => {
      scope(() => {
        const list = Array.from({ length: 10 }, (_, i) => tensor(i));
        for (const i of [0, 9, 4, 5, 1]) list[i]!.dispose();
        expect(list[7]!.item()).toBe(7);
      });
    }).toLeakNothing();
  });

  test('refuse an asynchronous function', () => {
    expect(() => scope(async () => Promise.resolve(1))).toThrow(
      expect.objectContaining({ code: 'E_SCOPE_ASYNC' }),
    );
  });

  test('keep() takes a tensor out', () => {
    const kept = scope(() => {
      ones([1]).keep().dispose();
      const x = ones([1]).keep();
      return { handle: x.handle, x: [x] };
    });
    expect(kept.x[0]!.keep().item()).toBe(1);
    kept.x[0]!.dispose();
  });

  test('a disposed tensor may be returned', () => {
    expect(() => {
      const x = scope(() => {
        const made = ones([1]);
        made.dispose();
        return made;
      });
      expect(x.isDisposed).toBe(true);
    }).toLeakNothing();
  });

  test('the table of tensors comes back to where it was after many calls', () => {
    const x = ones([4]);
    const before = liveTensors();
    for (let i = 0; i < 200; i++) {
      scope(() => {
        for (let k = 0; k < 100; k++) x.add(1);
      });
    }
    expect(liveTensors()).toBe(before);
    x.dispose();
  });
});

describe('asynchronous scopes', () => {
  test('follow their chain of awaits', async () => {
    await expect(async () => {
      const kept = await scopeAsync(async () => {
        const before = ones([1]);
        await sleep(1);
        const after = before.add(1);
        await Promise.resolve();
        return [after];
      });
      expect(kept[0]!.item()).toBe(2);
      kept[0]!.dispose();
    }).toLeakNothing();
  });

  test('stay apart when they overlap', async () => {
    const made: Record<string, Tensor[]> = { a: [], b: [] };
    let aliveInB: boolean[] = [];
    const run = (name: 'a' | 'b', pauses: number[]): Promise<void> =>
      scopeAsync(async () => {
        for (const pause of pauses) {
          made[name]!.push(ones([1]));
          await sleep(pause);
        }
        if (name === 'b') aliveInB = made['b']!.map((t) => !t.isDisposed);
      });
    await Promise.all([run('a', [1, 1]), run('b', [5, 10, 5])]);
    expect(aliveInB).toEqual([true, true, true]);
    expect([...made['a']!, ...made['b']!].every((t) => t.isDisposed)).toBe(true);
  });

  test('nest with synchronous ones', async () => {
    await expect(async () => {
      await scopeAsync(async () => {
        const x = scope(() => ones([2]).add(1));
        await sleep(1);
        const y = await scopeAsync(async () => {
          await sleep(1);
          return scope(() => x.add(x));
        });
        expect(y.toArray()).toEqual([4, 4]);
      });
    }).toLeakNothing();
  });

  test('do not put what they make into a synchronous scope around their beginning', async () => {
    let pending: Promise<Tensor> | undefined;
    scope(() => {
      pending = scopeAsync(async () => {
        const x = ones([1]);
        await sleep(1);
        return x.add(1);
      });
      return null;
    });
    const late = await pending!;
    expect(late.item()).toBe(2);
    expect(late.scope).toBeNull();
    late.dispose();
  });

  test('free everything when the function fails', async () => {
    await expect(async () => {
      const failing = scopeAsync(async () => {
        ones([1]);
        await sleep(1);
        ones([1]);
        throw new Error('stop');
      });
      await expect(failing).rejects.toThrow('stop');
    }).toLeakNothing();
  });

  test('pass what outlives them to the next scope around', async () => {
    await expect(async () => {
      await scopeAsync(async () => {
        let late: Promise<void> | undefined;
        await scopeAsync(async () => {
          late = sleep(5).then(() => {
            expect(ones([1]).scope).not.toBeNull();
          });
          return Promise.resolve();
        });
        await late;
      });
    }).toLeakNothing();
  });
});

describe('holdings', () => {
  test('keep everything made inside until they are disposed', () => {
    expect(() => {
      const holding = hold(() => {
        const x = ones([2]);
        return { x, y: x.add(1) };
      });
      expect(holding.value.x.isDisposed).toBe(false);
      holding.dispose();
      holding.dispose();
      expect(holding.value.y.isDisposed).toBe(true);
    }).toLeakNothing();
  });

  test('hold nothing when the function fails, and refuse an asynchronous one', () => {
    expect(() => {
      expect(() =>
        hold(() => {
          ones([2]);
          throw new Error('stop');
        }),
      ).toThrow('stop');
      expect(() => hold(async () => Promise.resolve(ones([1])))).toThrow(
        expect.objectContaining({ code: 'E_SCOPE_ASYNC' }),
      );
    }).toLeakNothing();
  });
});

test('using frees at the end of the block', () => {
  expect(() => {
    using x = ones([2]);
    using y = x.add(1);
    expect(y.toArray()).toEqual([2, 2]);
    y.dispose(); // early is fine
  }).toLeakNothing();
});

test('the finalizer frees what nobody disposed', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const before = liveTensors();
  for (let i = 0; i < 2000; i++) ones([4]);
  expect(liveTensors()).toBe(before + 2000);
  for (let i = 0; i < 50 && liveTensors() > before; i++) {
    await sleep(10);
    collect();
  }
  expect(liveTensors()).toBeLessThanOrEqual(before);
});

describe('toLeakNothing', () => {
  test('fails when tensors are left', () => {
    const left: Tensor[] = [];
    expect(() => {
      expect(() => left.push(ones([1]), ones([1]))).toLeakNothing();
    }).toThrow(/2 tensors are left/);
    for (const t of left) t.dispose();
  });

  test('fails when an asynchronous function leaves some', async () => {
    const left: Tensor[] = [];
    await expect(
      (async () => {
        await expect(async () => {
          await sleep(1);
          left.push(ones([1]));
        }).toLeakNothing();
      })(),
    ).rejects.toThrow(/1 tensors are left/);
    left[0]!.dispose();
  });

  test('runs with one thread per operator', () => {
    expect(threads()).toBe(1);
  });
});
