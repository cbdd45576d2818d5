/** Handles: whatever the native side keeps for TypeScript, a handle that is stale or none is refused by name. */

import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { B } from './door.js';
import { isFailure } from './errors.js';
import { DeviceEvent, RandomGenerator, MappedFile, ones } from './index.js';
import { native, type NativeFailure } from './native.js';

interface Kind {
  readonly noun: string;
  readonly type: string;
  readonly make: () => { readonly handle: number; readonly drop: () => void };
  readonly use: (handle: number) => unknown;
}

const KINDS: readonly Kind[] = [
  {
    noun: 'tensor',
    type: 'Tensor',
    make: () => {
      const tensor = ones([1]);
      return { handle: tensor.handle, drop: () => tensor.dispose() };
    },
    use: (handle) => native.storage(handle),
  },
  {
    noun: 'generator',
    type: 'RandomGenerator',
    make: () => {
      const generator = RandomGenerator.create(1);
      return { handle: generator.handle, drop: () => generator.dispose() };
    },
    use: (handle) => native.seedGenerator(handle, 1n),
  },
  {
    noun: 'event',
    type: 'DeviceEvent',
    make: () => {
      const handle = native.newEvent('cpu', false) as number;
      return { handle, drop: () => native.dropEvent(handle) };
    },
    use: (handle) => native.queryEvent(handle),
  },
  {
    noun: 'mapped file',
    type: 'MappedFile',
    make: () => {
      native.mapFile(fileURLToPath(import.meta.url));
      const handle = B[0]!;
      return { handle, drop: () => native.closeFile(handle) };
    },
    use: (handle) => native.checkFile(handle),
  },
];

test.each(KINDS)(
  'of a $noun: stale, reused, disposed, none, and those of other kinds',
  ({ noun, type, make, use }) => {
    const failure = (handle: number): NativeFailure => use(handle) as NativeFailure;
    const first = make();
    expect(isFailure(use(first.handle))).toBe(false);
    first.drop();
    const stale = { kind: 'stale', message: `the ${noun} was disposed` };
    expect(failure(first.handle)).toMatchObject(stale);
    const second = make(); // in the same slot
    expect(second.handle % 2 ** 24).toBe(first.handle % 2 ** 24);
    expect(failure(first.handle)).toMatchObject(stale);
    expect(isFailure(use(second.handle))).toBe(false);
    second.drop();
    expect(failure(-1)).toMatchObject(stale);
    const others = KINDS.filter((kind) => kind.noun !== noun).map((kind) => kind.make());
    for (const wrong of [
      0,
      NaN,
      0.5,
      7,
      Infinity,
      2 ** 53,
      ...others.map(({ handle }) => handle),
    ]) {
      expect(failure(wrong)).toMatchObject({ kind: 'argument', message: `expected a ${type}` });
    }
    for (const { drop } of others) drop();
  },
);

test('a stream that was never given out is refused', () => {
  for (const wrong of [0, 1, NaN]) {
    expect(native.setStream(wrong)).toMatchObject({ message: 'expected a Stream' });
  }
});

test('the objects that hold handles refuse to be used after they are disposed', () => {
  const event = new DeviceEvent('cpu').record();
  const file = new MappedFile(fileURLToPath(import.meta.url));
  event.dispose();
  file.dispose();
  for (const use of [
    () => event.record(),
    () => event.reached(),
    () => event.synchronize(),
    () => event.elapsedSince(event),
    () => file.check(),
    () => file.tensor({ dtype: 'uint8', shape: [1], offset: 0 }),
  ]) {
    expect(use).toThrow(expect.objectContaining({ code: 'E_DISPOSED' }));
  }
});
