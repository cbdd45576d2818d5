import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  DataError,
  EnvironmentError,
  NonFiniteError,
  OutOfMemoryError,
  type PatinaError,
} from '../../base/errors.js';
import type { RecipeInput } from '../../config/index.js';
import type { SegmentedModel } from '../../models/index.js';
import { liveTensors, noGrad, startProfile } from '../../torch/index.js';
import type {
  EndEvent,
  ProfileEvent,
  TrainEvent,
  UpdateEvent,
  ValidationEvent,
} from '../events.js';
import { listCheckpoints, newestWhole } from '../checkpoint/checkpoints.js';
import { TrainedWeights } from '../checkpoint/trained-weights.js';
import { makeTinyTrainer, tinyData, type TinyTrainer } from './testing.js';
import type { RunOptions, Trainer, TrainingData } from './trainer.js';

let folder: string;
const open: (() => void)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-trainer-'));
});
afterEach(() => {
  for (const close of open.splice(0).reverse()) close();
  rmSync(folder, { recursive: true });
});

const place = () => ({
  path: folder,
  checkpoints: folder,
  setState: () => Promise.resolve(),
});

/** A trainer, disposed of after the test. */
function tinyTrainer(more: Partial<RecipeInput> = {}, data = tinyData()): Trainer {
  const made = makeTinyTrainer(more, { data });
  open.push(() => made.dispose());
  trainers.set(made.trainer, made.model);
  return made.trainer;
}
const trainers = new WeakMap<Trainer, TinyTrainer['model']>();
const modelOf = (trainer: Trainer) => trainers.get(trainer)!;

async function all(trainer: Trainer, options?: RunOptions): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  for await (const event of trainer.run(place(), options)) events.push(event);
  return events;
}

const types = (events: readonly TrainEvent[]): string[] => events.map(({ type }) => type);
const losses = (events: readonly TrainEvent[]): (number | null)[] =>
  events.filter((event): event is UpdateEvent => event.type === 'update').map(({ loss }) => loss);
const bytes = (trainer: Trainer): string[] =>
  modelOf(trainer)
    .parameters()
    .map((tensor) => Buffer.from(tensor.toBytes()).toString('base64'));

test('a run tells of its updates, validations, probes and checkpoints in order', async () => {
  const events = await all(
    tinyTrainer({
      validation: { sources: ['v'], everyUpdates: 4 },
      probes: { questions: [{ text: 'What?', images: ['a.png'] }], everyUpdates: 3 },
      checkpoints: { everyUpdates: 4, background: false },
    }),
  );
  expect(types(events)).toEqual([
    'probes',
    ...['update', 'update', 'update', 'probes'],
    ...['update', 'validation', 'checkpoint'],
    ...['update', 'update', 'validation', 'probes', 'checkpoint'],
    'end',
  ]);
  expect(events[0]).toEqual({
    type: 'probes',
    update: 0,
    answers: [{ question: 'What?', images: ['a.png'], answer: 'you ask What?' }],
  });
  const updates = events.filter((event): event is UpdateEvent => event.type === 'update');
  expect(updates.map(({ update }) => update)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(updates[0]).toMatchObject({ epoch: 0, learningRate: 0, skipped: false, lossScale: null });
  expect(updates[1]).toMatchObject({ learningRate: 3e-3, counts: { sequences: 2, images: 2 } });
  expect(updates[5]!.loss!).toBeLessThan(updates[0]!.loss!);
  expect(events.at(-1)).toMatchObject({
    type: 'end',
    reason: 'finished',
    update: 6,
    loss: updates[5]!.loss,
    skipped: 0,
  });
  expect(await listCheckpoints(folder)).toMatchObject([{ update: 4 }, { update: 6 }]);
});

test('a run leaves no tensor behind', async () => {
  await all(tinyTrainer());
  for (const close of open.splice(0).reverse()) close();
  await expect(async () => {
    await all(tinyTrainer({ validation: { sources: ['v'] } }));
    for (const close of open.splice(0).reverse()) close();
  }).toLeakNothing();
});

describe('a run that goes on', () => {
  const decoder = { lora: { rank: 2, alpha: 4, dropout: 0.2 } };
  test.each<[string, Partial<RecipeInput>, string]>([
    ['full', {}, 'model.safetensors'],
    [
      'LoRA with dropout',
      { train: { vision: 'frozen', projector: 'full', decoder } },
      'adapter_model.safetensors',
    ],
  ])('is the uninterrupted one to the bit: %s', async (_name, more, file) => {
    const recipe = { ...more, validation: { sources: ['v'], everyUpdates: 2 } };
    const whole = tinyTrainer(recipe);
    const expected = await all(whole);
    rmSync(folder, { recursive: true });

    const stop = new AbortController();
    const first = tinyTrainer(
      recipe,
      tinyData((update) => update === 2 && stop.abort(new Error('stop'))),
    );
    const events = await all(first, { signal: stop.signal });
    expect(types(events).slice(-2)).toEqual(['checkpoint', 'end']);
    expect(events.at(-1)).toMatchObject({ reason: 'interrupted', update: 3 });
    const { checkpoint } = await newestWhole(folder);
    expect(readdirSync(checkpoint!.path)).toContain(file);

    const second = tinyTrainer(recipe);
    await second.resume(checkpoint!);
    const rest = await all(second);
    expect([...losses(events), ...losses(rest)]).toEqual(losses(expected));
    expect(rest.at(-1)).toMatchObject({ reason: 'finished', update: 6 });
    expect(bytes(second)).toEqual(bytes(whole));
  });

  test('is refused where the checkpoint is of another recipe', async () => {
    await all(tinyTrainer());
    const { checkpoint } = await newestWhole(folder);
    const other = tinyTrainer({ train: { vision: 'frozen', projector: 'full', decoder } });
    await expect(other.resume(checkpoint!)).rejects.toMatchObject({
      code: 'E_CHECKPOINT_TENSORS',
    });
  });
});

describe('a run that an error ends', () => {
  type Kind = new (...options: ConstructorParameters<typeof PatinaError>) => PatinaError;
  const fault = (Kind: Kind): PatinaError => new Kind('fault', { code: 'E_FAULT', hint: 'Mend.' });
  /** Data that fail at the fourth update. */
  const failing = (error: Error): TrainingData =>
    tinyData((update) => {
      if (update === 3) throw error;
    });
  const ended = async (trainer: Trainer, at = place()): Promise<[TrainEvent[], unknown]> => {
    const events: TrainEvent[] = [];
    try {
      for await (const event of trainer.run(at)) events.push(event);
    } catch (error) {
      return [events, error];
    }
    return [events, undefined];
  };

  test('between two updates is saved first, and goes on to the bit', async () => {
    const whole = tinyTrainer();
    const expected = await all(whole);
    rmSync(folder, { recursive: true });
    const error = fault(DataError);
    const [events, thrown] = await ended(tinyTrainer({}, failing(error)));
    expect(thrown).toBe(error);
    expect(types(events)).toEqual(['update', 'update', 'update', 'checkpoint']);
    const { checkpoint } = await newestWhole(folder);
    expect(checkpoint).toMatchObject({ update: 3 });
    const second = tinyTrainer();
    await second.resume(checkpoint!);
    const rest = await all(second);
    expect([...losses(events), ...losses(rest)]).toEqual(losses(expected));
    expect(bytes(second)).toEqual(bytes(whole));
  });

  test('is not saved twice, nor before there is anything to save', async () => {
    const error = fault(DataError);
    const [events] = await ended(tinyTrainer({ checkpoints: { everyUpdates: 3 } }, failing(error)));
    expect(types(events)).toEqual(['update', 'update', 'update', 'checkpoint']);
    const atOnce = tinyData(() => {
      throw error;
    });
    expect(await ended(tinyTrainer({}, atOnce))).toEqual([[], error]);
  });

  test.each<[string, Kind]>([
    ['memory', OutOfMemoryError],
    ['disk or device', EnvironmentError],
    ['numbers that are not finite', NonFiniteError],
  ])('is not saved where %s ended it', async (_name, Kind) => {
    const error = fault(Kind);
    const [events, thrown] = await ended(tinyTrainer({}, failing(error)));
    expect(thrown).toBe(error);
    expect(types(events)).toEqual(['update', 'update', 'update']);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('within an update or a checkpoint is not saved', async () => {
    const torn = new Error('torn');
    const trainer = tinyTrainer();
    const events: TrainEvent[] = [];
    await expect(async () => {
      for await (const event of trainer.run(place())) {
        if (events.push(event) < 2) continue;
        vi.spyOn(modelOf(trainer).decoder.embedTokens, 'forward').mockImplementation(() => {
          throw torn;
        });
      }
    }).rejects.toBe(torn);
    expect(types(events)).toEqual(['update', 'update']);
    expect(readdirSync(folder)).toEqual([]);

    const state = new Error('the state cannot be written');
    const at = { ...place(), setState: () => Promise.reject(state) };
    const checkpoints = { everyUpdates: 2, background: false };
    const [seen, thrown] = await ended(tinyTrainer({ checkpoints }), at);
    expect(thrown).toBe(state);
    expect(types(seen)).toEqual(['update', 'update']);
  });

  test('tells of that error, not of one in saving', async () => {
    const error = fault(DataError);
    const at = { ...place(), checkpoints: join(folder, 'file', 'checkpoints') };
    writeFileSync(join(folder, 'file'), '');
    const [events, thrown] = await ended(tinyTrainer({}, failing(error)), at);
    expect(thrown).toBe(error);
    expect(types(events)).toEqual(['update', 'update', 'update']);
  });
});

describe('a checkpoint in the background', () => {
  const checkpoints = { everyUpdates: 2, keep: 10 };
  const filesIn = (path: string): Record<string, string> => {
    const names = readdirSync(path).filter((name) => name !== 'manifest.json');
    return Object.fromEntries(names.map((f) => [f, readFileSync(join(path, f), 'base64')]));
  };
  /** Lets checkpoints be written only once it is told. */
  const held = (): (() => void) => {
    const { write } = TrainedWeights.prototype;
    let go: () => void = () => undefined;
    const told = new Promise<void>((resolve) => (go = resolve));
    vi.spyOn(TrainedWeights.prototype, 'write').mockImplementation(async function (
      this: TrainedWeights,
      ...args
    ) {
      await told;
      return write.apply(this, args);
    });
    return go;
  };
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test('holds the run as it was, though updates come before it is written; the next one waits', async () => {
    await all(tinyTrainer({ checkpoints: { ...checkpoints, background: false } }));
    const expected = (await listCheckpoints(folder)).map(({ path }) => filesIn(path));
    rmSync(folder, { recursive: true });
    const go = held();
    const events: TrainEvent[] = [];
    for await (const event of tinyTrainer({ checkpoints }).run(place())) {
      events.push(event);
      if (event.type === 'update' && event.update === 4) go();
    }
    expect(types(events).slice(0, 5)).toEqual([...Array<string>(4).fill('update'), 'checkpoint']);
    const saved = events.filter(({ type }) => type === 'checkpoint');
    expect(saved).toMatchObject([{ update: 2 }, { update: 4 }, { update: 6 }]);
    const written = (await listCheckpoints(folder)).map(({ path }) => filesIn(path));
    expect(written).toEqual(expected);
  });

  test('that fails ends the run, and leaves those before it', async () => {
    const error = new EnvironmentError('the disk is full', { code: 'E_DISK_FULL', hint: 'Free.' });
    const { write } = TrainedWeights.prototype;
    let saves = 0;
    vi.spyOn(TrainedWeights.prototype, 'write').mockImplementation(function (
      this: TrainedWeights,
      ...args
    ) {
      return ++saves === 2 ? Promise.reject(error) : write.apply(this, args);
    });
    await expect(all(tinyTrainer({ checkpoints }))).rejects.toBe(error);
    expect(readdirSync(folder)).toEqual(['update-00000002']);
  });

  test('is there when the run has been left', async () => {
    const go = held();
    for await (const event of tinyTrainer({ checkpoints }).run(place())) {
      if (event.type !== 'update' || event.update < 3) continue;
      setTimeout(go, 20);
      break;
    }
    expect(await listCheckpoints(folder)).toMatchObject([{ update: 2 }]);
  });

  test('leaves no copy behind', async () => {
    const trainer = tinyTrainer({ checkpoints: { everyUpdates: 1 } });
    let before = 0;
    for await (const event of trainer.run(place())) {
      if (event.type === 'update' && event.update === 1) before = liveTensors();
    }
    expect(liveTensors()).toBeLessThanOrEqual(before);
  });
});

test('a run stops after the updates asked for, and early when validation does not improve', async () => {
  expect((await all(tinyTrainer(), { maxUpdates: 2 })).at(-1)).toMatchObject({
    reason: 'max-updates',
    update: 2,
  });
  const events = await all(
    tinyTrainer({
      schedule: { updates: 50 },
      validation: { sources: ['v'], everyUpdates: 1, patience: 2, minimumImprovement: 100 },
    }),
  );
  const validations = events.filter((e): e is ValidationEvent => e.type === 'validation');
  expect(validations).toHaveLength(3);
  expect(events.at(-1)).toMatchObject({ reason: 'early-stopped', update: 3 });
});

test('updates without a finite gradient are counted, and several in a row end the run', async () => {
  const trainer = tinyTrainer({ schedule: { updates: 20 } });
  const name = 'model.language_model.norm.weight';
  noGrad(() => modelOf(trainer).namedParameters().get(name)!.fill_(NaN));
  const before = bytes(trainer);
  const seen: TrainEvent[] = [];
  await expect(async () => {
    for await (const event of trainer.run(place())) seen.push(event);
  }).rejects.toMatchObject({ code: 'E_NON_FINITE', exitCode: 6 });
  expect(seen).toHaveLength(5);
  expect(seen.every((event) => event.type === 'update' && event.skipped)).toBe(true);
  expect(bytes(trainer)).toEqual(before);
});

/** One block's gradient is too large for its norm, while what it computes and what flows on below stay finite. */
function spoilFirstBlock(model: SegmentedModel): void {
  const mlp = 'model.language_model.layers.0.mlp';
  const named = model.namedParameters();
  noGrad(() => named.get(`${mlp}.up_proj.weight`)!.zero_());
  noGrad(() => named.get(`${mlp}.down_proj.weight`)!.fill_(1e35));
}

test('with update in backward the error names the segments that were left out, and says that others were applied', async () => {
  const trainer = tinyTrainer({
    schedule: { updates: 20 },
    accumulate: 1,
    optimizer: { learningRate: 1e-3, clipNorm: null, updateInBackward: true },
  });
  spoilFirstBlock(modelOf(trainer));
  const named = modelOf(trainer).namedParameters();
  const bytesOf = (name: string): string => Buffer.from(named.get(name)!.toBytes()).toString('hex');
  const [out, applied] = ['layers.0.self_attn.q_proj', 'layers.1.self_attn.q_proj'].map(
    (name) => `model.language_model.${name}.weight`,
  ) as [string, string];
  const before = [bytesOf(out), bytesOf(applied)];
  const seen: TrainEvent[] = [];
  await expect(async () => {
    for await (const event of trainer.run(place())) seen.push(event);
  }).rejects.toMatchObject({
    code: 'E_NON_FINITE',
    message: expect.stringMatching(
      /left out were those of decoder\.0; the others were applied/,
    ) as string,
  });
  expect(seen.at(-1)).toMatchObject({ skipped: true, skippedSegments: ['decoder.0'] });
  expect(bytesOf(out)).toBe(before[0]);
  expect(bytesOf(applied)).not.toBe(before[1]);
});

test('with update in backward an update of which nothing was applied is left out as a whole', async () => {
  const trainer = tinyTrainer({
    schedule: { updates: 20 },
    accumulate: 1,
    optimizer: { learningRate: 1e-3, clipNorm: null, updateInBackward: true },
  });
  const name = 'model.language_model.norm.weight';
  noGrad(() => modelOf(trainer).namedParameters().get(name)!.fill_(NaN));
  const before = bytes(trainer);
  const seen: TrainEvent[] = [];
  await expect(async () => {
    for await (const event of trainer.run(place())) seen.push(event);
  }).rejects.toMatchObject({
    code: 'E_NON_FINITE',
    message: expect.stringMatching(/Weights are as they were before these updates\.$/) as string,
  });
  expect(seen.at(-1)).toMatchObject({ skipped: true, skippedSegments: null });
  expect(bytes(trainer)).toEqual(before);
});

test('more blocks to keep than the decoder has are refused', () => {
  expect(() => tinyTrainer({ memory: { keepBlocks: 3 } })).toThrow(
    expect.objectContaining({ code: 'E_POLICY' }) as Error,
  );
});

test('an update without a finite gradient leaves the weights; schedule and data go on', async () => {
  const broken = tinyData();
  const updates = broken.updates.bind(broken);
  /** The third update's first picture is not finite. */
  const data: TrainingData = {
    ...broken,
    async *updates(options) {
      let at = (options.from as { position: number } | undefined)?.position ?? 0;
      for await (const update of updates(options)) {
        if (at === 4) {
          const { samples } = update.microBatches.find(
            (part) => part.samples[0]!.images.length > 0,
          )!;
          (samples[0]!.images[0] as unknown as Float32Array).fill(NaN);
        }
        at += 2;
        yield update;
      }
    },
  };
  const trainer = tinyTrainer({}, data);
  const seen: { event: UpdateEvent; weights: string[] }[] = [];
  for await (const event of trainer.run(place())) {
    if (event.type === 'update') seen.push({ event, weights: bytes(trainer) });
  }
  expect(seen.map(({ event }) => event.skipped)).toEqual([false, false, true, false, false, false]);
  expect(seen[2]!.weights).toEqual(seen[1]!.weights);
  expect(seen[3]!.weights).not.toEqual(seen[2]!.weights);
  const { checkpoint } = await newestWhole(folder);
  const kept: unknown = JSON.parse(readFileSync(join(checkpoint!.path, 'trainer.json'), 'utf8'));
  expect(kept).toMatchObject({ update: 6, skipped: 1, cursor: { position: 12 } });
  const plain = (await all(tinyTrainer())).filter((e): e is UpdateEvent => e.type === 'update');
  for (const [i, { event }] of seen.entries()) {
    expect(event.learningRate).toBe(plain[i]!.learningRate);
    expect(event.counts).toEqual(plain[i]!.counts);
  }
});

test('an adapter is written as PEFT keeps it, with the projector beside', async () => {
  const decoder = { lora: { rank: 4, alpha: 8, rslora: true, targets: ['*.q_proj'] } };
  await all(tinyTrainer({ train: { projector: 'full', decoder }, schedule: { updates: 1 } }));
  const { checkpoint } = await newestWhole(folder);
  const config: unknown = JSON.parse(
    readFileSync(join(checkpoint!.path, 'adapter_config.json'), 'utf8'),
  );
  expect(config).toMatchObject({
    peft_type: 'LORA',
    r: 4,
    lora_alpha: 8,
    use_rslora: true,
    use_dora: false,
    modules_to_save: ['model.multi_modal_projector'],
    target_modules: [0, 1].map((i) => `model.language_model.layers.${i}.self_attn.q_proj`),
  });
});

describe('a run with a profile', () => {
  const long: Partial<RecipeInput> = { schedule: { updates: 8, warmupUpdates: 1 } };
  const profilesIn = (events: readonly TrainEvent[]): ProfileEvent[] =>
    events.filter((event): event is ProfileEvent => event.type === 'profile');

  test('tells where the time of a few updates went, keeps their trace, and trains on', async () => {
    const plain = await all(tinyTrainer(long));
    const events = await all(tinyTrainer(long), { profile: 2 });
    expect(losses(events)).toEqual(losses(plain));
    const [profile] = profilesIn(events);
    const trace = join(folder, 'profile', 'updates-4-5-rank-0.json.gz');
    expect(profile).toMatchObject({
      update: 5,
      updates: 2,
      measured: 'operators',
      trace,
      waits: {},
    });
    expect(types(events).indexOf('profile')).toBe(5);
    const { products, attention } = profile!.work;
    for (const part of ['tower', 'projector', 'decoder', 'head'] as const)
      expect(products![part]).toBeGreaterThan(0);
    expect(Object.keys(attention!)).toEqual(['tower', 'decoder']);
    expect(profile!.work.optimizer).toEqual({ optimizer: expect.any(Number) as number });
    const { traceEvents } = JSON.parse(gunzipSync(readFileSync(trace)).toString()) as {
      traceEvents: { name: string }[];
    };
    const names = new Set(traceEvents.map(({ name }) => name));
    for (const name of ['ProfilerStep#4', 'ProfilerStep#5', 'batch', 'backward decoder.1']) {
      expect(names).toContain(name);
    }
    expect(names).not.toContain('ProfilerStep#6');
    expect(readdirSync(join(folder, 'profile'))).toHaveLength(1);
  });

  test.each([
    // Fewer go by first, and fewer are profiled, where no more are left.
    [{ profile: 7 }, 'updates-2-8-rank-0.json.gz', 7],
    [{ profile: 20 }, 'updates-1-8-rank-0.json.gz', 8],
    [{ profile: 2, maxUpdates: 4 }, 'updates-3-4-rank-0.json.gz', 2],
  ])('%j makes %s', async (options, file, updates) => {
    const events = await all(tinyTrainer(long), options);
    expect(profilesIn(events)).toMatchObject([{ updates }]);
    expect(readdirSync(join(folder, 'profile'))).toEqual([file]);
  });

  test('that is interrupted tells of what there is', async () => {
    const stop = new AbortController();
    const data = tinyData((update) => update === 4 && stop.abort(new Error('stop')));
    const events = await all(tinyTrainer(long, data), { profile: 4, signal: stop.signal });
    const { update } = events.at(-1) as EndEvent;
    expect(update).toBe(5);
    expect(profilesIn(events)).toMatchObject([{ update, updates: 2 }]);
  });

  test('that fails leaves none running', async () => {
    const data = tinyData((update) => {
      if (update === 4) throw new TypeError('no such record');
    });
    await expect(all(tinyTrainer(long, data), { profile: 4 })).rejects.toThrow('no such record');
    expect(existsSync(join(folder, 'profile'))).toBe(false);
    startProfile('cpu').discard();
  });
});
