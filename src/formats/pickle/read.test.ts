import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { DataError, PatinaError } from '../../base/errors.js';
import { cases } from '../../base/testing.js';
import { readDense } from '../stored.js';
import { callsIn, checkpointOf, damage, filesIn, PICKLES } from '../testing.js';
import { Machine } from './machine.js';
import { readCheckpoint, readCheckpointBytes, storedTensor } from './read.js';
import type { PickleRecord } from './values.js';
import { PickleTensor, type PickleDict, type PickleValue } from './values.js';

interface Expected {
  kind: 'ok' | 'refuse';
  why: string;
  either?: boolean;
}

const { files } = JSON.parse(readFileSync(join(PICKLES, 'expected.json'), 'utf8')) as {
  files: Record<string, Expected>;
};
const hostile = Object.entries(files).filter(([, { kind }]) => kind === 'refuse');
const sound = Object.entries(files).filter(([, { kind }]) => kind === 'ok');

const origin = process.cwd();
let empty: string;
beforeAll(() => {
  empty = mkdtempSync(join(tmpdir(), 'patina-pickle-'));
  process.chdir(empty);
});
afterAll(() => {
  process.chdir(origin);
  rmSync(empty, { recursive: true });
});

const read = (name: string): Promise<PickleValue> => readCheckpoint(join(PICKLES, name));
const dict = (value: PickleValue | undefined): PickleDict => value as PickleDict;

describe('stored checkpoints', () => {
  test.each(sound)('%s loads', async (name) => {
    await expect(read(name)).resolves.toBeDefined();
  });

  test.each(hostile)('%s is refused, or loaded where it may be', async (name, { either }) => {
    let outcome: unknown;
    const run = async (): Promise<void> => {
      outcome = await read(name).catch((error: unknown) => error);
    };
    const { charge } = await callsIn(run, Machine.prototype, 'charge');
    // The interpreter counts whatever it makes; the longest of these programs, inflated, makes half a million things.
    expect(charge).toBeLessThan(1e6);
    if (either !== true || outcome instanceof Error) {
      expect(outcome).toBeInstanceOf(DataError);
      expect(outcome).toMatchObject({
        code: expect.stringMatching(/^E_/) as string,
        message: expect.stringContaining(name) as string,
      });
    }
    expect(readdirSync(empty)).toEqual([]);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  test.each([
    ['unknown_class.pt', 'E_PICKLE_GLOBAL', /mmengine\.config\.config\.Config/],
    ['pointer.bin', 'E_WRONG_KIND', /Git LFS/],
    ['safetensors.bin', 'E_WRONG_KIND', /safetensors/],
    ['zip_torchscript.pt', 'E_TORCHSCRIPT', /TorchScript/],
    ['zip_bad_crc_storage.pt', 'E_ZIP_CHECKSUM', /data\/0/],
    ['tensor_stride_beyond.pt', 'E_PICKLE_TENSOR', /element 1001 of a storage of 4/],
  ])('the error of %s says why', async (name, code, message) => {
    await expect(read(`refuse/${name}`)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });
});

describe('values', () => {
  test('integers, floats and booleans stay apart', async () => {
    const value = dict(await read('ok/nested_plain.pt'));
    expect(dict(value.get('int_keys')).get(10n ** 20n)).toBe('large');
    expect(value.get('big')).toBe(-(2n ** 70n));
    expect(value.get('floats')).toEqual([Infinity, -Infinity, -0, 1e308]);
  });

  test('keys from the file are keys of a Map', async () => {
    const value = dict(await read('ok/hostile_keys.pt'));
    expect(value.get('__proto__')).toBeInstanceOf(PickleTensor);
    expect([...value.keys()]).toContain('hasOwnProperty');
  });

  test('what is no data becomes a record', async () => {
    const value = dict(await read('ok/deepspeed_mp_rank_00_model_states.pt'));
    const args = value.get('args') as PickleRecord;
    expect(args.className).toBe('argparse.Namespace');
    expect(args.state.get('lr')).toBe(2e-4);
  });

  test("mmengine's loss curves do not stand in the way of the weights", async () => {
    const getMean = text('builtins', 'getattr', 'mmengine.logging.history_buffer', 'HistoryBuffer');
    const value = await readCheckpointBytes('curves.pth', checkpointOf(getMean));
    expect(value).toMatchObject({
      className: 'mmengine.logging.history_buffer.HistoryBuffer.mean',
    });
  });
});

/** `getattr(HistoryBuffer, 'mean')` as protocol 2 writes it. */
function text(module: string, name: string, classModule: string, className: string): Uint8Array {
  return Buffer.from(
    `\x80\x02c${module}\n${name}\nc${classModule}\n${className}\nX\x04\0\0\0mean\x86R.`,
    'latin1',
  );
}

describe('tensors', () => {
  const stored = async (name: string, key: string) => {
    const value = dict(await read(name));
    return storedTensor(value.get(key) as PickleTensor, key, join(PICKLES, name));
  };

  test('are places in the file', async () => {
    const tensor = await stored('ok/zip_dtypes.pt', 'f32');
    expect(tensor).toMatchObject({ dtype: 'F32', shape: [3, 4], bytes: 48 });
    expect(tensor.offset % 64).toBe(0);
    expect(tensor).not.toHaveProperty('data');
    expect(tensor).not.toHaveProperty('strides');
  });

  test('are views of shared storages', async () => {
    const views = await stored('ok/zip_views.pt', 'transposed');
    expect(views).toMatchObject({ shape: [5, 3, 4], strides: [1, 20, 5] });
    const embed = await stored('ok/zip_shared.pt', 'embed');
    const column = await stored('ok/zip_shared.pt', 'column');
    expect(column.storage).toBe(embed.storage);
    expect(column.offset).toBe(embed.offset + 4);
    expect(column).toMatchObject({ shape: [4], strides: [3], bytes: 40 });
  });

  test.each(['deflated_records.pt', 'big_endian.pt'])('of %s lie in memory', async (name) => {
    const tensor = await stored(`ok/${name}`, 'w');
    expect(tensor.data?.length).toBe(16);
    const bytes = await readDense(tensor, 16);
    expect([...new Float32Array(bytes.buffer, bytes.byteOffset, 4)]).toEqual([1, -2, 3.5, 0.25]);
  });

  test('with strides of 0 are not written out beyond a limit', async () => {
    const tensor = await stored('refuse/tensor_expanded_huge.pt', 'w');
    expect(tensor).toMatchObject({ shape: [2 ** 40], strides: [0], bytes: 4 });
    await expect(readDense(tensor, 2 ** 20)).rejects.toMatchObject({ code: 'E_TENSOR_TOO_LARGE' });
  });
});

describe('limits', () => {
  const refused = (pickle: Uint8Array) =>
    expect(readCheckpointBytes('bomb.pt', checkpointOf(pickle))).rejects;

  test('a flood of containers ends before memory does', async () => {
    await refused(Buffer.alloc(8_000_000, '}')).toMatchObject({ code: 'E_PICKLE_LIMIT' });
  });

  test('calls on a long list, again and again, end after a few of the 10^9 items', async () => {
    const list = `](${'K\x01'.repeat(50_000)}eq\x00`;
    const call = 'c__builtin__\nset\nh\x00\x85R0';
    const pickle = Buffer.from(`\x80\x02${list}${call.repeat(20_000)}.`, 'latin1');
    const { addItem } = await callsIn(
      () => refused(pickle).toMatchObject({ code: 'E_PICKLE_LIMIT' }),
      Machine.prototype,
      'addItem',
    );
    expect(addItem).toBeGreaterThan(50_000);
    expect(addItem).toBeLessThan(5e6);
  });

  test('keys that are deep or wide tuples cost what they are long', async () => {
    const deep = `N${'\x85'.repeat(50_000)}q\x00`;
    const pickle = `\x80\x02}q\x01${deep}Ns${'h\x00Ns'.repeat(1000)}.`;
    const bytes = checkpointOf(Buffer.from(pickle, 'latin1'));
    expect(dict(await readCheckpointBytes('deep.pt', bytes)).size).toBe(1);
  });

  test('a file that cannot be read is a typed error', async () => {
    await expect(readCheckpoint(join(empty, 'none.pt'))).rejects.toMatchObject({
      code: 'E_FILE_MISSING',
    });
    await expect(readCheckpoint(empty)).rejects.toMatchObject({ code: 'E_NOT_A_FILE' });
  });

  test('reading stops when told to', async () => {
    const signal = AbortSignal.abort();
    await expect(readCheckpoint(join(PICKLES, 'ok/zip_views.pt'), { signal })).rejects.toThrow();
  });
});

/** Pieces of programs: most combinations run for a while, some to the end. */
const PIECES = [
  'N',
  '\x88',
  'K\x01',
  'K\x02',
  'J\xff\xff\xff\xff',
  '\x8a\x09\0\0\0\0\0\0\0\0\x01',
  'G\x40\0\0\0\0\0\0\0',
  'X\x01\0\0\0a',
  'X\x01\0\0\x000',
  'X\x07\0\0\0storage',
  'X\x06\0\0\0latin1',
  'X\x02\0\0\0f8',
  'C\x08\0\0\0\0\0\0\0\0',
  ...Array.from('()]}012tdleuasbRQo.'),
  '\x81',
  '\x85',
  '\x86',
  '\x87',
  '\x8f',
  '\x90',
  '\x91',
  '\x92',
  '\x93',
  '\x94',
  'h\0',
  'h\x01',
  'q\x01',
  ...[
    'torch._utils _rebuild_tensor',
    'torch._utils _rebuild_tensor_v2',
    'torch._utils _rebuild_tensor_v3',
    'torch._utils _rebuild_parameter',
    'torch._tensor _rebuild_from_type_v2',
    'torch Tensor',
    'torch FloatStorage',
    'torch bfloat16',
    'torch Size',
    'torch device',
    'torch.torch_version TorchVersion',
    'collections OrderedDict',
    'collections defaultdict',
    '_codecs encode',
    'builtins set',
    'builtins bytearray',
    'builtins getattr',
    'builtins object',
    'copyreg _reconstructor',
    'argparse Namespace',
    'numpy dtype',
    'numpy ndarray',
    'numpy.core.multiarray scalar',
    'numpy.core.multiarray _reconstruct',
    'numpy.core.numeric _frombuffer',
  ].map((name) => `c${name.replace(' ', '\n')}\n`),
  // A storage, a tensor of it, an empty tuple of hooks.
  '(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ',
  'K\0K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)R',
];

describe('damaged files', () => {
  const all = [...filesIn(join(PICKLES, 'ok')), ...filesIn(join(PICKLES, 'refuse'))].filter(
    (bytes) => bytes.length < 10_000,
  );

  const endsWell = async (bytes: Uint8Array): Promise<void> => {
    try {
      await readCheckpointBytes('damaged.pt', bytes);
    } catch (error) {
      expect(error).toBeInstanceOf(PatinaError);
    }
  };

  test('give a value or a typed error', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...all), damage, async (bytes, harm) => {
        await endsWell(harm(bytes));
      }),
      { numRuns: cases(300) },
    );
    expect(readdirSync(empty)).toEqual([]);
  });

  test('also where no checksum shows the damage', async () => {
    const pickles = all.map(pickleIn).filter((pickle) => pickle !== undefined);
    expect(pickles.length).toBeGreaterThan(80);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...pickles), damage, async (pickle, harm) => {
        await endsWell(checkpointOf(harm(pickle), { 0: new Uint8Array(16) }));
      }),
      { numRuns: cases(500) },
    );
    expect(readdirSync(empty)).toEqual([]);
  });

  test('so do programs that nobody would write', async () => {
    const program = fc.array(fc.constantFrom(...PIECES), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(program, async (pieces) => {
        const pickle = Buffer.from(`${pieces.join('')}.`, 'latin1');
        await endsWell(checkpointOf(pickle, { 0: new Uint8Array(16) }));
      }),
      { numRuns: cases(500) },
    );
  });
});

/** The first stored entry of a zip, which is the pickle in these files. */
function pickleIn(bytes: Uint8Array): Uint8Array | undefined {
  const file = Buffer.from(bytes);
  if (file.length < 30 || file.readUInt32LE(0) !== 0x04034b50 || file.readUInt16LE(8) !== 0) {
    return undefined;
  }
  const start = 30 + file.readUInt16LE(26) + file.readUInt16LE(28);
  const end = file.indexOf('PK', start);
  return file.subarray(start, end);
}
