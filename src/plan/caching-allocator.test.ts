/** The imitation of libtorch's allocator: the rules of c10/cuda/CUDACachingAllocator.cpp, and that it loses nothing. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CachingAllocator, type Block } from './caching-allocator.js';

const MIB = 2 ** 20;

describe('segments', () => {
  test.each([
    ['small blocks share 2 MiB', 1, 512, 2 * MIB],
    ['up to 1 MiB is small', MIB, MIB, 2 * MIB],
    ['below 10 MiB a segment has 20', 3 * MIB, 3 * MIB, 20 * MIB],
    ['from 10 MiB on it has what is asked for, in steps of 2', 10 * MIB + 1, 12 * MIB, 12 * MIB],
  ])('%s', (_, bytes, allocated, reserved) => {
    const allocator = new CachingAllocator();
    allocator.allocate(bytes, 0);
    // What is left of a large segment is split off only where it is more than 1 MiB.
    const whole = bytes > 10 * MIB ? 10 * MIB + 512 : allocated;
    expect([allocator.allocated, allocator.reserved]).toEqual([whole, reserved]);
  });

  test('a rest of at most 1 MiB stays with its large block', () => {
    const allocator = new CachingAllocator();
    allocator.allocate(11.5 * MIB, 0);
    expect(allocator.allocated).toBe(12 * MIB);
  });
});

test('a block is given out again, in its own stream alone', () => {
  const allocator = new CachingAllocator();
  allocator.free(allocator.allocate(16 * MIB, 0));
  allocator.allocate(16 * MIB, 0);
  expect(allocator.reserved).toBe(16 * MIB);
  allocator.allocate(16 * MIB, 1);
  expect(allocator.reserved).toBe(32 * MIB);
});

test('the smallest free block that suffices is taken', () => {
  const allocator = new CachingAllocator();
  const [large, middle] = [allocator.allocate(64 * MIB, 0), allocator.allocate(32 * MIB, 0)];
  allocator.free(large);
  allocator.free(middle);
  allocator.allocate(30 * MIB, 0);
  allocator.allocate(64 * MIB, 0);
  expect(allocator.reserved).toBe(96 * MIB);
});

test('of blocks of one size the first by address is given out', () => {
  const allocator = new CachingAllocator();
  const blocks = [1, 2, 3].map(() => allocator.allocate(30 * MIB, 0));
  for (const at of [0, 2, 1]) allocator.free(blocks[at]!);
  expect([1, 2, 3].map(() => blocks.indexOf(allocator.allocate(30 * MIB, 0)))).toEqual([0, 1, 2]);
});

test('what another stream still reads is not allocated, and not to be had', () => {
  const allocator = new CachingAllocator();
  const block = allocator.allocate(30 * MIB, 0);
  allocator.giveUp(block);
  expect(allocator).toMatchObject({ allocated: 0, reserved: 30 * MIB });
  allocator.allocate(30 * MIB, 0);
  expect(allocator.reserved).toBe(60 * MIB);
  allocator.giveOut(block);
  expect(allocator.allocate(30 * MIB, 0)).toBe(block);
});

test('at the limit cached segments go back, and what still does not fit is told', () => {
  const allocator = new CachingAllocator({ limit: 100 * MIB });
  allocator.free(allocator.allocate(60 * MIB, 0));
  allocator.allocate(80 * MIB, 0);
  expect(allocator).toMatchObject({ reserved: 80 * MIB, exceeded: false });
  allocator.allocate(40 * MIB, 0);
  expect(allocator.exceeded).toBe(true);
});

test('an expandable segment grows by what is missing', () => {
  const allocator = new CachingAllocator({ expandable: true });
  allocator.free(allocator.allocate(60 * MIB, 0));
  allocator.allocate(80 * MIB, 0);
  expect(allocator.reserved).toBe(80 * MIB);
});

test.each([false, true])(
  'whatever comes and goes, the counts are right (expandable: %s)',
  (expandable) => {
    const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 40 * MIB }), fc.nat(2), fc.nat()), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(
      fc.property(sizes, (steps) => {
        const allocator = new CachingAllocator({ expandable });
        const alive: Block[] = [];
        for (const [bytes, stream, choice] of steps) {
          const block = allocator.allocate(bytes, stream);
          expect(block.size).toBeGreaterThanOrEqual(bytes);
          alive.push(block);
          if (choice % 2 === 0) allocator.free(alive.splice(choice % alive.length, 1)[0]!);
          expect(allocator.allocated).toBe(alive.reduce((sum, { size }) => sum + size, 0));
          expect(allocator.reserved).toBeGreaterThanOrEqual(allocator.allocated);
        }
        for (const block of alive) allocator.free(block);
        allocator.emptyCache();
        expect([allocator.allocated, allocator.reserved]).toEqual([0, 0]);
      }),
    );
  },
);
