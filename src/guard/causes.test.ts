/** Each cause that one process can bring about, injected from outside, and a near twin that must not be named so. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { formatNumber } from '../base/format.js';
import type { LoadedSample } from '../data/index.js';
import type { Llava, TrainingInputs } from '../models/index.js';
import { noGrad, type Tensor } from '../torch/index.js';
import { HostCopy } from '../train/step/host-copy.js';
import { Guarded, tinyRecord, type GuardedOptions } from './testing.js';

let folder: string;
const open: Guarded[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-guard-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  for (const each of open.splice(0)) each.dispose();
  rmSync(folder, { recursive: true });
});

async function run(options: GuardedOptions): Promise<Guarded> {
  const guarded = await Guarded.make(options);
  open.push(guarded);
  return guarded.run(folder);
}

const COUNT = 16;
const ordinary = Array.from({ length: COUNT }, (_, i) => tinyRecord(i));
/** The records, some of them changed. */
const withChanged = (
  numbers: readonly number[],
  change: (record: LoadedSample) => LoadedSample,
): LoadedSample[] => ordinary.map((each, i) => (numbers.includes(i) ? change(each) : each));

/** A record with a picture all of whose pixels are this. */
const pixels = (value: number) => (record: LoadedSample) => ({
  ...tinyRecord(Number(record.id?.toString().slice(1)), 1),
  images: [new Float32Array(3 * 8 * 8).fill(value)] as unknown as Uint8Array[],
});

const EMBEDDINGS = 'model.language_model.embed_tokens.weight';
const fill = (model: Llava, name: string, value: number, row?: number): void => {
  const parameter = model.namedParameters().get(name)!;
  noGrad(() => (row === undefined ? parameter : parameter.select(0, row)).fill_(value));
};

const WORD = 38;
/** Replaces a word by one that no other record has, outside of what is learnt. */
const withWord = (record: LoadedSample): LoadedSample => {
  const { inputIds, labels } = record;
  const at = labels.findIndex((label, i) => label < 0 && inputIds[i] !== 39);
  return { ...record, inputIds: inputIds.map((id, i) => (i === at ? WORD : id)) };
};
const withoutWord = (record: LoadedSample): LoadedSample => {
  const other = (id: number): number => (id === WORD ? 3 : id);
  return { ...record, inputIds: record.inputIds.map(other), labels: record.labels.map(other) };
};
const wordy = (numbers: readonly number[]): LoadedSample[] =>
  ordinary.map((each, i) =>
    numbers.includes(i) ? withWord(withoutWord(each)) : withoutWord(each),
  );

const FP16 = {
  recipe: {
    precision: { compute: 'fp16', lossScale: { initial: 1 } },
    optimizer: { learningRate: 1e-4 },
  },
  precision: { compute: 'float16', scaled: true },
  dtype: 'float16',
} as const satisfies GuardedOptions;

describe('a record', () => {
  test('that spoils its update is poisoned, is put into quarantine, and the run goes on', async () => {
    const { causes, diagnoses, recoveries, events, error } = await run({
      records: withChanged([5], pixels(3e38)),
    });
    expect(error).toBeNull();
    expect(causes, JSON.stringify(diagnoses)).toEqual(['poisoned-record']);
    expect(diagnoses[0]!.records).toEqual([{ source: 'tiny.jsonl', line: 6, record: 6, id: 'r5' }]);
    expect(diagnoses[0]!.page).toBe('docs/causes/poisoned-record.md');
    expect(recoveries).toMatchObject([{ action: 'quarantine', budgetLeft: 19 }]);
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'finished', update: 8 });
  });

  test('alone in its update is told from weights by a record before it', async () => {
    const { causes } = await run({
      recipe: { accumulate: 1 },
      records: withChanged([5], pixels(3e38)),
    });
    expect(causes).toEqual(['poisoned-record']);
  });

  test('with bright pixels is none', async () => {
    const { causes } = await run({ records: withChanged([5], pixels(1e3)) });
    expect(causes).toEqual([]);
  });

  test('with pixels that are not finite has a broken picture', async () => {
    const { causes, diagnoses } = await run({ records: withChanged([5], pixels(NaN)) });
    expect(causes).toEqual(['broken-image']);
    expect(diagnoses[0]!.records[0]!.line).toBe(6);
  });

  test('without a token to learn is no supervision', async () => {
    const mute = (record: LoadedSample): LoadedSample => ({
      ...record,
      labels: record.labels.map(() => -100),
      supervised: 0,
    });
    const { causes, error } = await run({ records: withChanged([4, 5], mute) });
    expect([causes, error]).toEqual([['no-supervision'], null]);
    const twin = await run({ records: withChanged([5], mute) });
    expect(twin.causes).toEqual([]);
  });
});

describe('weights', () => {
  test('that are not finite from the start are named', async () => {
    const name = 'model.language_model.layers.1.mlp.up_proj.weight';
    const { causes, diagnoses, error } = await run({
      breaks: (model) => fill(model, name, NaN, 0),
    });
    expect(new Set(causes)).toEqual(new Set(['weights-not-finite']));
    expect(diagnoses[0]!.module).toBe('model.language_model.layers.1.mlp.up_proj');
    expect(error).toMatchObject({ code: 'E_NON_FINITE' });
  });

  test('that are not finite in the row of a word spoil its records alone', async () => {
    const { causes, recoveries, error } = await run({
      records: wordy([5]),
      breaks: (model) => fill(model, EMBEDDINGS, Infinity, WORD),
    });
    expect(error).toBeNull();
    expect(causes).toEqual(['weights-not-finite']);
    expect(recoveries[0]).toMatchObject({ action: 'quarantine', records: [{ line: 6 }] });
  });

  test('that are large are no harm', async () => {
    const { causes } = await run({
      records: wordy([5]),
      breaks: (model) => fill(model, EMBEDDINGS, 1e4, WORD),
    });
    expect(causes).toEqual([]);
  });
});

describe('fp16', () => {
  const NORM = 'model.language_model.layers.1.input_layernorm.weight';
  const TOWER = 'model.vision_tower.encoder.layers.0.layer_norm2.weight';

  test('whose activations leave its range in the decoder', async () => {
    const { causes, diagnoses } = await run({ ...FP16, breaks: (model) => fill(model, NORM, 6e4) });
    expect(causes[0]).toBe('fp16-overflow-decoder');
    expect(diagnoses[0]!.module).toContain('language_model.layers.1');
  });

  test('whose activations leave its range in the tower', async () => {
    const { causes, diagnoses } = await run({
      ...FP16,
      breaks: (model) => fill(model, TOWER, 6e4),
    });
    expect(causes[0]).toBe('fp16-overflow-vision');
    expect(diagnoses[0]!.module).toContain('vision_tower');
  });

  test('whose scale is found by trying is no fault', async () => {
    const precision = { compute: 'fp16', lossScale: { initial: 2 ** 30, hysteresis: 1 } } as const;
    const { causes, events } = await run({
      ...FP16,
      recipe: { ...FP16.recipe, precision, schedule: { updates: 24 } },
    });
    expect(events.some((event) => event.type === 'update' && event.skipped)).toBe(true);
    expect(causes).toEqual([]);
  });
});

describe('what only breaks while it runs', () => {
  test('attention to nothing leaves whole rows', async () => {
    const breaks = (model: Llava): void =>
      breakAttention(model, (out) => noGrad(() => out.select(1, 1).fill_(NaN)));
    const { causes, diagnoses } = await run({ breaks });
    expect(causes[0]).toBe('masked-attention-row');
    expect(diagnoses[0]!.module).toMatch(/^attention of decoder/);
  });

  test('attention that reads what nobody wrote gives other numbers each time', async () => {
    let calls = 0;
    const breaks = (model: Llava): void =>
      breakAttention(model, (out) => {
        calls++;
        noGrad(() =>
          out
            .select(1, 0)
            .select(1, 0)
            .select(1, calls % 3)
            .fill_(calls % 2 === 0 ? NaN : Infinity),
        );
      });
    const { causes, error } = await run({ breaks });
    expect(causes[0], String(error)).toBe('varlen-garbage');
  });

  test('a loss that is not finite where a plain one is', async () => {
    const { causes } = await run({
      breaks: ({ head }) => {
        const losses = head.losses.bind(head);
        vi.spyOn(head, 'losses').mockImplementation((...given) => {
          const result = losses(...given);
          noGrad(() => result.losses.fill_(NaN));
          noGrad(() => result.inputGradient?.fill_(NaN));
          return result;
        });
      },
    });
    expect(causes[0]).toBe('loss-kernel');
  });

  test('a product that was wrong once is the device', async () => {
    let times = 0;
    const breaks = (model: Llava): void => breakLosses(model, () => ++times === 5);
    const { causes, recoveries } = await run({ breaks });
    expect(causes).toEqual(['hardware-fault']);
    expect(recoveries).toMatchObject([{ action: 'leave-out' }]);
  });

  test('boundaries that come back from host memory before they are there', async () => {
    const take = HostCopy.prototype.take;
    let times = 0;
    vi.spyOn(HostCopy.prototype, 'take').mockImplementation(function (this: HostCopy) {
      const boundary = take.call(this);
      if (++times > 12) noGrad(() => boundary.fill_(NaN));
      return boundary;
    });
    const { causes } = await run({ recipe: { memory: { policy: 'offload' } } });
    expect(causes[0]).toBe('offload-race');
  });
});

describe('what looks like it and is none', () => {
  test.each<[string, GuardedOptions]>([
    [
      'attention whose rows are large',
      {
        breaks: (model) => breakAttention(model, (out) => noGrad(() => out.select(1, 1).fill_(50))),
      },
    ],
    ['boundaries that travel through host memory', { recipe: { memory: { policy: 'offload' } } }],
    [
      'a gradient that is a thousand times as large once',
      {
        breaks: ({ head }) => {
          const losses = head.losses.bind(head);
          let times = 0;
          vi.spyOn(head, 'losses').mockImplementation((...given) => {
            const result = losses(...given);
            if (++times === 5)
              noGrad(() => result.inputGradient?.copy_(result.inputGradient.mul(1000)));
            return result;
          });
        },
      },
    ],
  ])('%s', async (_, options) => {
    const { causes, error } = await run(options);
    expect([causes, error]).toEqual([[], null]);
  });
});

describe('the course of a run', () => {
  const LONG = { updates: 60, warmupUpdates: 1, decay: 'constant' } as const;

  test('whose learning rate is too high', async () => {
    const { causes, diagnoses, model } = await run({
      recipe: { schedule: LONG, optimizer: { learningRate: 3 }, accumulate: 1 },
    });
    expect(causes[0]).toBe('learning-rate-too-high');
    // What `patina check` would say: 2e-5 for a width of 4096.
    const usual = (2e-5 * 4096) / model.decoder.config.hiddenSize;
    expect(usual).toBeLessThan(0.03);
    expect(diagnoses[0]!.fix).toMatch(`--set optimizer.learningRate=${formatNumber(usual)}`);
  });

  test('whose weights are so large after one step that their squares are infinite', async () => {
    const { causes, diagnoses, error } = await run({
      recipe: {
        schedule: { ...LONG, updates: 6, warmupUpdates: 0 },
        optimizer: { learningRate: 1e20 },
      },
    });
    expect(error).toMatchObject({ code: 'E_NON_FINITE' });
    expect(new Set(causes)).toEqual(new Set(['learning-rate-too-high']));
    expect(diagnoses[0]!.message).toMatch(/% of what weights are/);
  });

  test('that has left where it began, by the rate of a group', async () => {
    const groups = [{ parameters: '*lm_head*', learningRate: 50 }];
    const { causes, diagnoses } = await run({
      recipe: { schedule: { ...LONG, updates: 40 }, optimizer: { learningRate: 1e-3, groups } },
    });
    expect(causes[0]).toBe('learning-rate-too-high');
    expect(diagnoses[0]!.fix).toMatch(/--set optimizer.groups.0.learningRate=/);
  });

  test('whose steps are too small for its weights', async () => {
    const at = (learningRate: number) => ({
      recipe: { schedule: LONG, optimizer: { learningRate } },
    });
    const { causes, diagnoses } = await run(at(1e-10));
    expect(causes).toEqual(['low-precision-weights']);
    expect(diagnoses[0]!.message).toMatch(/less than fp32 resolves/);
    expect(diagnoses[0]!.fix).toMatch(/^raise the learning rate/);
    // A thousand times as large they are small, and no fault.
    expect((await run(at(1e-7))).causes).toEqual([]);
  });

  test('whose steps are as large as its weights', async () => {
    const { causes, diagnoses } = await run({
      recipe: { schedule: { ...LONG, updates: 8 }, optimizer: { learningRate: 0.3 } },
    });
    expect(causes[0]).toBe('learning-rate-too-high');
    expect(diagnoses[0]!.message).toMatch(/nothing lasts of what they had learnt/);
  });

  test('with a tensor that never gets a gradient', async () => {
    const breaks = (model: Llava): void => {
      fill(model, 'model.language_model.layers.0.mlp.down_proj.weight', 0);
      fill(model, 'model.language_model.layers.0.mlp.up_proj.weight', 0);
    };
    const { causes, diagnoses } = await run({ recipe: { schedule: LONG }, breaks });
    expect(causes).toEqual(['no-gradient']);
    expect(diagnoses[0]!.module).toContain('layers.0.mlp');
  });

  test('that goes well is told nothing of', async () => {
    const { causes } = await run({ recipe: { schedule: LONG } });
    expect(causes).toEqual([]);
  });
});

/** Attention whose results are changed, in training and elsewhere. */
function breakAttention(model: Llava, change: (out: Tensor) => void): void {
  const inputs = model.inputs.bind(model);
  vi.spyOn(model, 'inputs').mockImplementation((batch): TrainingInputs => {
    const given = inputs(batch);
    return {
      ...given,
      attend: (...qkv) => {
        const out = given.attend(...qkv);
        change(out);
        return out;
      },
      attention: {
        ...given.attention,
        forward: (...qkv) => {
          const result = given.attention.forward(...qkv);
          change(result.output.unsqueeze(0));
          return result;
        },
      },
    };
  });
}

/** The gradient from the head, spoilt when asked to. */
function breakLosses({ head }: Llava, now: () => boolean): void {
  const losses = head.losses.bind(head);
  vi.spyOn(head, 'losses').mockImplementation((x, ...rest) => {
    const result = losses(x, ...rest);
    if (now()) noGrad(() => result.inputGradient?.fill_(Infinity));
    return result;
  });
}
