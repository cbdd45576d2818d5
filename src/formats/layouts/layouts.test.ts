import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { readSafetensors } from '../safetensors/header.js';
import { encodeSafetensors } from '../safetensors/write.js';
import { readDense, type StoredTensor } from '../stored.js';
import { unwrapAdapterName, peftName } from './adapter-names.js';
import { checkTensors, TensorsError } from './check-tensors.js';
import { nameTensors } from './name-tensors.js';
import { partOf, toOwnName, toStoredName } from './rename.js';
import { LAYOUTS, LLAVA_PREFIXES, TEXT_PREFIXES, type Layout, type LayoutName } from './tables.js';

interface Names {
  own: Record<string, number[]>;
  layouts: Record<string, string[]>;
  adapters: Record<string, string[]>;
}

/** The names of one model in every layout, as the reference's own code wrote them. */
const names = JSON.parse(
  readFileSync(join(packageRoot(), 'test/fixtures/layouts/names.json'), 'utf8'),
) as Names;
const own = Object.keys(names.own);

const tensor = (name: string, shape: readonly number[] = []): StoredTensor => ({
  name,
  dtype: 'F32',
  shape,
  file: 'x',
  offset: 0,
  bytes: 0,
});
const named = (stored: readonly string[], options: { own?: typeof TEXT_PREFIXES } = {}) =>
  nameTensors(
    stored.map((name) => tensor(name)),
    { where: 'x', ...options },
  );
const inParts = (...parts: string[]): string[] =>
  own.filter((name) => parts.includes(partOf(name, LLAVA_PREFIXES)!)).sort();

/** Stored folder, layout that it is in, parts that it holds. */
const STORED: [string, LayoutName, string[]][] = [
  ['hf', 'hf', ['vision', 'projector', 'decoder', 'head']],
  ['hf-old', 'hf-old', ['vision', 'projector', 'decoder', 'head']],
  ['hf-2025', 'hf-2025', ['vision', 'projector', 'decoder', 'head']],
  ['hf-2026', 'hf-2026', ['vision', 'projector', 'decoder', 'head']],
  ['official', 'official', ['vision', 'projector', 'decoder', 'head']],
  ['xtuner', 'xtuner', ['vision', 'projector', 'decoder', 'head']],
  ['llm', 'llama', ['decoder', 'head']],
  ['clip', 'clip', ['vision']],
  ['clip-full', 'clip', ['vision']],
  ['projector', 'projector', ['projector']],
];

describe.each(STORED)('the names of %s', (folder, layout, parts) => {
  const stored = names.layouts[folder]!;

  test('are recognised and become those of the model', () => {
    const result = named(stored);
    expect(result.layout).toBe(layout);
    expect([...result.tensors.keys()].sort()).toEqual(inParts(...parts));
    expect(result.unexpected).toEqual([]);
  });

  test('are made out of those of the model', () => {
    const made = inParts(...parts).map((name) =>
      toStoredName(LAYOUTS[layout], name, LLAVA_PREFIXES),
    );
    const surplus = [...named(stored).ignored.keys()];
    expect([...made, ...surplus].sort()).toEqual(stored);
  });
});

test.each(Object.values<Layout>(LAYOUTS).map((layout) => [layout.name, layout] as const))(
  'what %s calls a tensor leads back to it',
  (_, layout) => {
    for (const name of own) {
      const stored = toStoredName(layout, name, LLAVA_PREFIXES);
      const part = partOf(name, LLAVA_PREFIXES)!;
      expect(stored === undefined).toBe(layout.prefixes[part] === undefined);
      if (stored !== undefined) expect(toOwnName(layout, stored, LLAVA_PREFIXES)).toBe(name);
    }
  },
);

test('what a whole CLIP model holds besides is named and not needed', () => {
  const { ignored } = named(names.layouts['clip-full']!);
  expect([...ignored.keys()]).toEqual(
    expect.arrayContaining([
      'logit_scale',
      'text_projection.weight',
      'visual_projection.weight',
      'text_model.final_layer_norm.bias',
      'vision_model.embeddings.position_ids',
    ]),
  );
});

test('old buffers are not needed, unknown tensors are told', () => {
  const decoder = names.layouts['llm']!;
  const result = named([
    ...decoder,
    'model.layers.0.self_attn.rotary_emb.inv_freq',
    'model.image_newline',
  ]);
  expect([...result.ignored.keys()]).toEqual(['model.layers.0.self_attn.rotary_emb.inv_freq']);
  expect(result.unexpected).toEqual(['model.image_newline']);
});

test("a projector of the authors' pre-training, of one layer too", () => {
  expect([
    ...named(['model.mm_projector.0.weight', 'model.mm_projector.2.bias']).tensors.keys(),
  ]).toEqual([
    'model.multi_modal_projector.linear_1.weight',
    'model.multi_modal_projector.linear_2.bias',
  ]);
  const one = named(['model.mm_projector.weight', 'model.mm_projector.bias']);
  expect([...one.tensors.keys()][0]).toBe('model.multi_modal_projector.linear_1.weight');
  expect(named(['model.0.weight', 'model.1.weight']).unexpected).toEqual(['model.1.weight']);
});

test('a text model keeps its names', () => {
  const decoder = names.layouts['llm']!;
  expect([...named(decoder, { own: TEXT_PREFIXES }).tensors.keys()]).toEqual(decoder);
});

test('tensors of something else, or two of one name, are refused', () => {
  expect(() => named(['encoder.block.0.weight', '__proto__'])).toThrow(/encoder\.block/);
  expect(() => named(['model.mm_projector.0.bias', 'model.mm_projector.bias'])).toThrow(
    /both model\.multi_modal_projector\.linear_1\.bias/,
  );
});

describe('adapters', () => {
  test.each(Object.entries(names.adapters))('%s', (_, stored) => {
    const { tensors, unexpected } = named(stored);
    expect(unexpected).toEqual([]);
    for (const [name, { name: source }] of tensors) expect(peftName(name)).toBe(source);
    const module = 'model.language_model.layers.0.mlp.down_proj';
    expect(tensors.has(`${module}.lora_A.weight`)).toBe(true);
    expect(tensors.has('model.multi_modal_projector.linear_1.bias')).toBe(true);
  });

  test.each([
    [
      'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight',
      'model.language_model.layers.0.self_attn.q_proj.lora_A.weight',
    ],
    [
      'llm.base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight',
      'model.language_model.layers.0.self_attn.q_proj.lora_B.weight',
    ],
    [
      'visual_encoder.base_model.model.vision_model.encoder.layers.1.mlp.fc1.lora_A.default.weight',
      'model.vision_tower.encoder.layers.1.mlp.fc1.lora_A.weight',
    ],
    [
      'base_model.model.vision_model.encoder.layers.1.mlp.fc1.lora_A.weight',
      'model.vision_tower.encoder.layers.1.mlp.fc1.lora_A.weight',
    ],
    [
      'base_model.model.language_model.model.layers.0.mlp.up_proj.lora_magnitude_vector',
      'model.language_model.layers.0.mlp.up_proj.lora_magnitude_vector',
    ],
    [
      'base_model.model.lm_head.lora_magnitude_vector.default.weight',
      'lm_head.lora_magnitude_vector',
    ],
    [
      'base_model.model.model.mm_projector.modules_to_save.default.2.weight',
      'model.multi_modal_projector.linear_2.weight',
    ],
  ])('%s', (stored, name) => {
    expect([...named([stored]).tensors.keys()]).toEqual([name]);
  });

  test('a plain name is left alone', () => {
    for (const name of own) expect(unwrapAdapterName(name)).toBe(name);
  });
});

describe('the strict comparison', () => {
  const expected = new Map(Object.entries(names.own));
  const tensors = new Map(own.map((name) => [name, tensor(name, names.own[name])]));
  const check = (changes: Partial<Parameters<typeof checkTensors>[0]>) =>
    checkTensors({ where: 'x', tensors, expected, ...changes });

  test('takes what fits, in the order of the model', () => {
    const reversed = new Map([...tensors].reverse());
    expect([...check({ tensors: reversed }).tensors.keys()]).toEqual(own);
  });

  test('names every fault, of all kinds at once', () => {
    const broken = new Map(tensors);
    broken.delete('model.language_model.norm.weight');
    broken.set('lm_head.weight', tensor('lm_head.weight', [512, 47]));
    broken.set('model.vision_tower.pre_layrnorm.bias', {
      ...tensor('model.vision_tower.pre_layrnorm.bias', [40]),
      dtype: 'I64',
    });
    broken.set('model.language_model.layers.9.mlp.up_proj.weight', tensor('x'));
    let error: unknown;
    try {
      check({ tensors: broken, unexpected: ['image_newline'] });
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(TensorsError);
    const { faults, message, code } = error as TensorsError;
    expect(code).toBe('E_TENSORS');
    expect(faults.map(({ kind, name }) => `${kind} ${name}`).sort()).toEqual([
      'missing model.language_model.norm.weight',
      'unexpected image_newline',
      'unexpected model.language_model.layers.9.mlp.up_proj.weight',
      'unfit lm_head.weight',
      'unfit model.vision_tower.pre_layrnorm.bias',
    ]);
    expect(message).toContain('"lm_head.weight" has the shape [512, 47], expected [512, 48]');
    expect(message).toContain('"model.vision_tower.pre_layrnorm.bias" has the type I64');
    const allow = [...faults.map(({ name }) => name)];
    const checked = check({ tensors: broken, unexpected: ['image_newline'], allow });
    expect(checked.missing).toHaveLength(3);
    expect(checked.unused).toHaveLength(2);
    expect(checked.tensors.size).toBe(own.length - 3);
  });

  test('allows all below a name', () => {
    const without = new Map(
      [...tensors].filter(([name]) => !name.startsWith('model.vision_tower.')),
    );
    expect(() => check({ tensors: without })).toThrow(/missing/);
    expect(check({ tensors: without, allow: ['model.vision_tower.*'] }).missing).toHaveLength(71);
  });

  test('knows tied embeddings, whichever of the two is stored', () => {
    const embedding = 'model.language_model.embed_tokens.weight';
    const tied = new Map([['lm_head.weight', embedding]]);
    const needs = new Map([...expected].filter(([name]) => name !== 'lm_head.weight'));
    expect(check({ expected: needs, tied }).unused).toEqual(['lm_head.weight']);
    const headOnly = new Map([...tensors].filter(([name]) => name !== embedding));
    const checked = check({ tensors: headOnly, expected: needs, tied });
    expect(checked.tensors.get(embedding)?.name).toBe('lm_head.weight');
    expect(checked.unused).toEqual([]);
  });

  test('tells a placeholder of ZeRO-3', () => {
    const empty = new Map(tensors).set('lm_head.weight', tensor('lm_head.weight', [0]));
    expect(() => check({ tensors: empty })).toThrow(/ZeRO-3/);
  });
});

const originals = process.env['PATINA_FIXTURES'];
describe.runIf(originals !== undefined)('the original folders', () => {
  const models = join(originals ?? '', 'llava');
  const variants =
    originals === undefined ? [] : readdirSync(models).filter((name) => !name.includes('.'));
  test.each(variants)('%s: every layout is written again to the byte', async (variant) => {
    for (const [folder, layout] of STORED) {
      if (folder === 'xtuner' || folder === 'clip-full') continue;
      const path = join(
        models,
        variant,
        folder === 'projector' ? 'xtuner/projector' : folder,
        'model.safetensors',
      );
      const file = await readSafetensors(path);
      const { tensors, layout: found } = nameTensors(file.tensors, { where: path });
      expect(found).toBe(layout);
      const again = await Promise.all(
        [...tensors].map(async ([name, each]) => ({
          ...each,
          name: toStoredName(LAYOUTS[layout], name, LLAVA_PREFIXES)!,
          data: await readDense(each, Infinity),
        })),
      );
      const metadata = file.metadata.size === 0 ? null : Object.fromEntries(file.metadata);
      const bytes = encodeSafetensors(again, { metadata });
      expect(Buffer.compare(bytes, readFileSync(path)), path).toBe(0);
    }
  });
});
