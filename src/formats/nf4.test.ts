/** Matrices that bitsandbytes has quantised, among the tensors of files: folded, or refused by name. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import { foldNf4 } from './nf4.js';
import { inspect } from './layouts/inspect.js';
import { readSafetensors } from './safetensors/header.js';
import { writeSafetensors } from './safetensors/write.js';
import { nf4Parts, readSpan, type StoredDType, storedParts } from './stored.js';

const CHECKPOINT = join(packageRoot(), 'test', 'fixtures', 'nf4', 'checkpoint');
const FILE = join(CHECKPOINT, 'model.safetensors');
const NAME = 'model.layers.0.mlp.up_proj.weight';
const STATE = `${NAME}.quant_state.bitsandbytes__nf4`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-nf4-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

interface Written {
  name: string;
  dtype: StoredDType;
  shape: readonly number[];
  bytes: Uint8Array;
}

/** The checkpoint with one tensor changed or left out. */
async function changed(
  name: string,
  change: (tensor: Written) => Partial<Written> | undefined,
): Promise<string> {
  const { tensors } = await readSafetensors(FILE);
  const written = await Promise.all(
    tensors.map(async (stored) => {
      const { dtype, shape } = stored;
      const tensor = { name: stored.name, dtype, shape, bytes: await readSpan(stored) };
      if (stored.name !== name) return [tensor];
      const made = change(tensor);
      return made === undefined ? [] : [{ ...tensor, ...made }];
    }),
  );
  const path = join(folder, `${name}.safetensors`);
  await writeSafetensors(
    path,
    written.flat().map(({ bytes, ...rest }) => ({ ...rest, bytes: () => bytes })),
  );
  return path;
}

const fold = async (path: string) => foldNf4((await readSafetensors(path)).tensors);

test('a matrix becomes one tensor, of the type and the shape that it stands for', async () => {
  const folded = await fold(FILE);
  const matrix = folded.find(({ name }) => name === NAME)!;
  expect(matrix).toMatchObject({
    dtype: 'BF16',
    shape: [96, 64],
    form: { name: 'nf4', doubleQuantised: true },
  });
  expect(nf4Parts(matrix)!.offset).toBe(Math.fround(nf4Parts(matrix)!.offset!));
  expect(
    storedParts(matrix)
      .map(({ name }) => name.slice(NAME.length))
      .sort(),
  ).toEqual(
    [
      ...['', '.absmax', '.nested_absmax', '.nested_quant_map', '.quant_map'],
      '.quant_state.bitsandbytes__nf4',
    ].sort(),
  );
  const rest = folded.filter(({ form }) => form === undefined).map(({ name }) => name);
  expect(rest.sort()).toEqual(
    [
      ...['lm_head.weight', 'model.embed_tokens.weight', 'model.norm.weight'],
      ...[0, 1].flatMap((i) =>
        ['input', 'post_attention'].map((which) => `model.layers.${i}.${which}_layernorm.weight`),
      ),
    ].sort(),
  );
  const { parts } = await inspect(CHECKPOINT);
  expect(parts.get('decoder')!.dtypes).toEqual(['NF4', 'BF16']);
});

test('codes that are stored as if they were of another type are the same bytes', async () => {
  const path = await changed(NAME, () => ({ dtype: 'BF16', shape: [1536, 1] }));
  const matrix = (await fold(path)).find(({ name }) => name === NAME)!;
  expect(nf4Parts(matrix)!.packed).toMatchObject({ dtype: 'U8', shape: [3072, 1], bytes: 3072 });
});

const json = (change: (text: string) => string) => (tensor: Written) => {
  const bytes = new TextEncoder().encode(change(new TextDecoder().decode(tensor.bytes)));
  return { bytes, shape: [bytes.length] };
};

test.each([
  ['fp4', STATE, json((text) => text.replace('nf4', 'fp4')), /quant_type: "fp4"/],
  ['other blocks', STATE, json((text) => text.replace('64', '128')), /blocksize: 128/],
  ['another shape', STATE, json((text) => text.replace('[96', '[97')), /fills 3072 bytes/],
  ['a shape that is none', STATE, json((text) => text.replace('[96', '[-1')), /says shape/],
  [
    'too many elements',
    STATE,
    json((text) => text.replace('[96', '[9007199254740991')),
    /says shape/,
  ],
  ['no scales', `${NAME}.absmax`, () => undefined, /up_proj\.weight\.absmax, which is not there/],
  ['no codes', NAME, () => undefined, /matrix that is not there/],
  ['wide scales', `${NAME}.absmax`, () => ({ dtype: 'I8' as const }), /is I8 of 96 elements/],
  ['long JSON', STATE, json((text) => text.padEnd(5000)), /5000 bytes of JSON/],
])('%s are refused with the tensor', async (_what, name, change, message) => {
  const path = await changed(name, change);
  await expect(fold(path)).rejects.toMatchObject({
    code: 'E_QUANTISED',
    message: expect.stringMatching(message) as string,
  });
});

test('what is no JSON is refused, and so are 8 bits', async () => {
  const broken = await changed(
    STATE,
    json((text) => text.slice(1)),
  );
  await expect(fold(broken)).rejects.toMatchObject({ code: 'E_JSON' });
  const int8 = await changed('model.norm.weight', () => ({ name: `${NAME}.SCB` }));
  await expect(fold(int8)).rejects.toMatchObject({
    code: 'E_QUANTISED',
    message: expect.stringMatching(/SCB" belongs to a matrix in 8 bits/) as string,
  });
});
