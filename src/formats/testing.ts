/** For this room's tests: stored checkpoints, small zip archives, and damage to bytes. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';

import { packageRoot } from '../base/native-path.js';

/** The stored checkpoints of `test/fixtures/pickle`. */
export const PICKLES = join(packageRoot(), 'test', 'fixtures', 'pickle');

/** Every file of a folder. */
export function filesIn(folder: string): Uint8Array[] {
  return readdirSync(folder).map((name) => readFileSync(join(folder, name)));
}

/** How often `run` calls methods of a class, by name: work that is counted, not timed. */
export async function callsIn<Name extends string>(
  run: () => Promise<unknown>,
  owner: Record<Name, (...args: never[]) => unknown>,
  ...names: Name[]
): Promise<Record<Name, number>> {
  const calls = Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
  const methods = names.map((name) => [name, owner[name]] as const);
  for (const [name, method] of methods) {
    owner[name] = function (this: unknown, ...args) {
      calls[name]++;
      return method.apply(this, args);
    };
  }
  try {
    await run();
  } finally {
    for (const [name, method] of methods) owner[name] = method;
  }
  return calls;
}

/** Ways to damage a file of any length: places are fractions of it. */
const edit = fc.record({
  kind: fc.constantFrom('set', 'flip', 'insert', 'remove', 'cut', 'repeat'),
  place: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  length: fc.integer({ min: 1, max: 12 }),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 12 }),
});

/** A function that damages bytes in one to four places. */
export const damage: fc.Arbitrary<(bytes: Uint8Array) => Uint8Array> = fc
  .array(edit, { minLength: 1, maxLength: 4 })
  .map((edits) => (bytes) => edits.reduce(apply, bytes));

function apply(
  bytes: Uint8Array,
  { kind, place, length, bytes: given }: typeof edit extends fc.Arbitrary<infer T> ? T : never,
): Uint8Array {
  const at = Math.floor(place * bytes.length);
  const before = bytes.subarray(0, at);
  const rest = bytes.subarray(at);
  switch (kind) {
    case 'set':
      return Buffer.concat([before, given, rest.subarray(given.length)]);
    case 'flip':
      return Buffer.concat([before, Buffer.from([(rest[0] ?? 0) ^ given[0]!]), rest.subarray(1)]);
    case 'insert':
      return Buffer.concat([before, given, rest]);
    case 'remove':
      return Buffer.concat([before, rest.subarray(length)]);
    case 'cut':
      return before;
    case 'repeat':
      return Buffer.concat([before, rest.subarray(0, length), rest]);
  }
}

/** A zip archive of stored entries without checksums, which readers therefore do not compare. */
export function zipOf(entries: Readonly<Record<string, Uint8Array>>): Buffer {
  const bodies: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, content] of Object.entries(entries)) {
    const title = Buffer.from(name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50);
    local.writeUInt32LE(content.length, 18);
    local.writeUInt32LE(content.length, 22);
    local.writeUInt16LE(title.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50);
    central.writeUInt32LE(content.length, 20);
    central.writeUInt32LE(content.length, 24);
    central.writeUInt16LE(title.length, 28);
    central.writeUInt32LE(at, 42);
    directory.push(central, title);
    bodies.push(local, title, Buffer.from(content));
    at += 30 + title.length + content.length;
  }
  const listing = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(bodies.length / 3, 8);
  end.writeUInt16LE(bodies.length / 3, 10);
  end.writeUInt32LE(listing.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...bodies, listing, end]);
}

/** A zip checkpoint of this pickle and these storages. */
export function checkpointOf(
  pickle: Uint8Array,
  storages: Readonly<Record<string, Uint8Array>> = {},
): Uint8Array {
  const records = Object.entries(storages).map(([key, data]) => [`archive/data/${key}`, data]);
  return zipOf({
    'archive/data.pkl': pickle,
    'archive/version': Buffer.from('3\n'),
    ...(Object.fromEntries(records) as Record<string, Uint8Array>),
  });
}

/** A state dict of tensors of one float32 each, as torch writes it: `{key: {name: tensor, ...}}`, or without `key` the inner one. */
export function stateDict(names: readonly string[], key?: string): Uint8Array {
  const text = (value: string): string => {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return `X${length.toString('latin1')}${bytes.toString('latin1')}`;
  };
  const storage = `(${text('storage')}ctorch\nFloatStorage\n${text('0')}${text('cpu')}K\x01tQ`;
  const tensor = `ctorch._utils\n_rebuild_tensor_v2\n(${storage}K\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR`;
  const dict = `}(${names.map((name) => text(name) + tensor).join('')}u`;
  const pickle = key === undefined ? dict : `}${text(key)}${dict}s`;
  return checkpointOf(Buffer.from(`\x80\x02${pickle}.`, 'latin1'), { 0: new Uint8Array(4) });
}
