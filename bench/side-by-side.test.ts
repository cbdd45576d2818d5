/** What runs beside what, and that all is done. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sideBySide } from './side-by-side.js';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('never more than there is room for, each once, and each knows whether it was alone', async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(sizes, fc.func(fc.integer({ min: 0, max: 3 })), async (pieces, ticksOf) => {
      const running = new Set<number>();
      const done: number[] = [];
      const left = await sideBySide([...pieces.keys()], {
        room: 10,
        takes: (i) => pieces[i]!,
        mayBegin: () => true,
        run: async (i, isShared) => {
          running.add(i);
          const taken = [...running].reduce((sum, each) => sum + pieces[each]!, 0);
          expect(running.size === 1 || taken <= 10).toBe(true);
          let met = running.size > 1;
          for (let n = ticksOf(i); n >= 0; n--) {
            await tick();
            met ||= running.size > 1;
          }
          if (met) expect(isShared()).toBe(true);
          if (pieces[i]! >= 10) expect(isShared()).toBe(false);
          running.delete(i);
          done.push(i);
        },
      });
      expect(left).toEqual([]);
      expect(done.sort((a, b) => a - b)).toEqual([...pieces.keys()]);
    }),
  );
});

test('small ones run while a large one waits, which then runs alone', async () => {
  const log: string[] = [];
  await sideBySide([4, Infinity, 5], {
    room: 10,
    takes: (piece) => piece,
    mayBegin: () => true,
    run: async (piece, isShared) => {
      log.push(`${piece} begins`);
      await tick();
      log.push(`${piece} ends${isShared() ? '' : ' alone'}`);
    },
  });
  expect(log).toEqual([
    ...['4 begins', '5 begins', '4 ends', '5 ends'],
    ...['Infinity begins', 'Infinity ends alone'],
  ]);
});

test('what may not begin is told, and an error only once nothing runs', async () => {
  let begun = 0;
  const ended: number[] = [];
  const options = { room: 2, takes: () => 1 };
  const left = await sideBySide([1, 2, 3, 4], {
    ...options,
    mayBegin: () => begun < 2,
    run: async () => {
      begun++;
      await tick();
    },
  });
  expect(left).toEqual([3, 4]);
  const failing = sideBySide([1, 2, 3], {
    ...options,
    mayBegin: () => true,
    run: async (piece) => {
      if (piece === 1) throw new Error('the disk is full');
      await tick();
      ended.push(piece);
    },
  });
  await expect(failing).rejects.toThrow('the disk is full');
  expect(ended).toEqual([2]);
});
