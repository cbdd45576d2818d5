import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { LoopbackHub } from '../base/hub/loopback-hub.js';
import type { HubEvent } from '../base/hub/resolve.js';
import { packageRoot } from '../base/native-path.js';
import type { RecipeInput } from '../config/index.js';
import { loadChatModel } from '../generate/index.js';
import { LLAVA } from '../generate/testing.js';
import type { TrainEvent } from './events.js';
import { listRuns } from './run/list-runs.js';
import { loggedWarnings, ofType, readEvents } from './run/logs.js';
import { all, lossesOf, startOf, updatesOf } from './testing-events.js';
import { colourRecord, ColourFolder, TINY_CONFIG } from './testing-files.js';
import { resumeRun, train, type TrainOptions } from './train.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

const at = (...path: string[]): string => folder.at(...path);
const runs = (): string => folder.runs;
const recipe = (more?: Partial<RecipeInput>): RecipeInput => folder.recipe(more);
const writeRecords = (name: string, records: readonly unknown[]): string =>
  folder.writeRecords(name, records);

const run = (more?: Partial<RecipeInput>, options?: TrainOptions): Promise<TrainEvent[]> =>
  all(train(recipe(more), options));
const weightsOf = (events: readonly TrainEvent[]): Buffer => {
  const { checkpoint } = events.at(-1) as { checkpoint: string };
  const [file] = readdirSync(checkpoint).filter((name) => /model\.safetensors$/.test(name));
  return readFileSync(join(checkpoint, file!));
};

/** Tokens of a record with a picture. */
const LENGTH = 30;
const packed = (batchTokens: number) =>
  ({ batchSize: undefined, batchTokens, effectiveBatch: 4 }) as const;
const DROPPING = {
  projector: 'full',
  decoder: { lora: { rank: 2, alpha: 4, dropout: 0.1 } },
} as const;
const TWO_PICTURES = [
  { from: 'human', value: '<image><image>What colours are these?' },
  { from: 'gpt', value: 'They are red and green.' },
];
/** Steps that do not turn the last bit of a gradient into a whole one. */
const CALM = { learningRate: 3e-3, epsilon: 0.1 };

/** The numbers of a safetensors file in fp32. */
function floatsOf(file: Buffer): Float32Array {
  const header = Number(file.readBigUInt64LE());
  return new Float32Array(new Uint8Array(file.subarray(8 + header)).buffer);
}

/** How far values are from others, as a share of their norm. */
function distance(values: Float32Array, from: Float32Array): number {
  return Math.hypot(...values.map((value, i) => value - from[i]!)) / Math.hypot(...from);
}

describe('train', () => {
  test('within a limit of memory, and says what would fit where it does not suffice', async () => {
    const tooLittle = run({ memory: { limit: 1e-4 } });
    await expect(tooLittle).rejects.toMatchObject({
      exitCode: 5,
      hint: expect.stringMatching(/parallel\.zero: 3/) as string,
    });
    // The limit is the run's alone.
    expect((await run()).at(-1)).toMatchObject({ type: 'end', reason: 'finished' });
  });

  test.each([
    { zero: 2, offload: 'optimizer' },
    { zero: 3, offload: 'parameters' },
  ] as const)('in one process with %o in host memory, to the same losses', async (parallel) => {
    const expected = await run();
    const events = await run({ parallel });
    for (const [i, loss] of lossesOf(events).entries()) {
      expect(loss).toBeCloseTo(lossesOf(expected)[i]!, 4);
    }
    expect(startOf(events).statements.at(-1)).toMatch(/in host memory .* of optimizer/);
    const again = await all(
      resumeRun((events.at(-1) as { run: string }).run, {
        set: ['schedule.epochs=3', 'parallel.offload=none', 'parallel.zero=0'],
      }),
    );
    expect(again.at(-1)).toMatchObject({ type: 'end', reason: 'finished' });
  });

  test('makes a run folder, and a model in it that can be spoken to', async () => {
    const probes = { questions: [{ text: 'What colour is it?', images: [at('0.png')] }] };
    const events = await run({ probes });
    expect(startOf(events)).toMatchObject({
      recipe: 'colours',
      resumedFrom: 0,
      updates: { perEpoch: 5, planned: 10, warmup: 1 },
      data: { recordsPerEpoch: 10, validationRecords: 0 },
      statements: [
        'computes in fp32 in place of bf16: CPUs are slow in bf16',
        'batch 2 x 1 accumulated x 1 device = 2 records an update',
        'pictures are padded to 8 x 8 (image.mode: pad)',
      ],
    });
    expect(events.filter(({ type }) => type === 'probes')).toHaveLength(2);
    const [summary] = await listRuns(runs());
    expect(summary).toMatchObject({ state: 'finished', updates: 10, plannedUpdates: 10 });
    expect(summary!.losses).toEqual(lossesOf(events));
    const files = readdirSync(summary!.path).sort();
    expect(files).toEqual(
      [
        'checkpoints',
        'environment.json',
        'events.jsonl',
        'metrics.jsonl',
        'provenance.json',
        'recipe.json',
        'state.json',
        'tensorboard',
      ].sort(),
    );
    const end = events.at(-1) as { checkpoint: string };
    const { model, stopTokens } = await loadChatModel(end.checkpoint);
    expect(model.input.image?.tokens).toBe(4);
    model.dispose();
    const said = readFileSync(join(end.checkpoint, 'generation_config.json'), 'utf8');
    const { eos_token_id: ends } = JSON.parse(said) as { eos_token_id: number | number[] };
    expect([ends].flat()).toEqual(stopTokens);
  });

  // Both: shuffled, several sources, stopped in the second epoch.
  test.each<[string, () => Partial<RecipeInput>]>([
    ['everything trains', () => ({})],
    [
      'LoRA with dropout, accumulated, grouped, on threads',
      () => ({
        train: { projector: 'full', decoder: { lora: { rank: 2, alpha: 4, dropout: 0.3 } } },
        data: { ...recipe().data, workers: 2, grouping: 'modality' },
        batchSize: 1,
        accumulate: 2,
        memory: { policy: 'recompute' },
      }),
    ],
    [
      'packed by tokens, with dropout, on threads',
      () => ({
        ...packed(LENGTH),
        ...{ effectiveBatch: 2, batchImages: 1 },
        train: DROPPING,
        data: { ...recipe().data, workers: 2 },
      }),
    ],
  ])('that is interrupted in an epoch goes on to the bit: %s', async (_name, choose) => {
    const more = choose();
    const whole = await run(more);
    const stop = new AbortController();
    const first: TrainEvent[] = [];
    for await (const event of train(recipe(more), { signal: stop.signal })) {
      first.push(event);
      if (event.type === 'update' && event.update === 7) stop.abort();
    }
    expect(first.at(-1)).toMatchObject({ type: 'end', reason: 'interrupted', update: 7 });
    const path = startOf(first).run!;
    expect((await listRuns(runs())).find((each) => each.path === path)).toMatchObject({
      state: 'interrupted',
      updates: 7,
    });
    const rest = await all(resumeRun(path));
    expect(startOf(rest)).toMatchObject({ resumedFrom: 7, run: path });
    expect([...lossesOf(first), ...lossesOf(rest)]).toEqual(lossesOf(whole));
    expect(weightsOf(rest).equals(weightsOf(whole))).toBe(true);
    expect((await all(resumeRun(path))).at(-1)).toMatchObject({ reason: 'finished', update: 10 });
  });

  test('makes the same updates however their records are packed', async () => {
    const more = { train: DROPPING, schedule: { epochs: 1 }, optimizer: CALM };
    const oneByOne = await run({ ...more, batchSize: 1, effectiveBatch: 4 });
    const expected = updatesOf(oneByOne);
    const values = floatsOf(weightsOf(oneByOne));
    const shown: unknown[] = [];
    for (const budget of [LENGTH, 2 * LENGTH, 1000]) {
      const events = await run({ ...more, ...packed(budget) });
      const updates = updatesOf(events);
      expect(updates).toHaveLength(3);
      for (const [i, { loss, gradientNorm, counts, filled }] of updates.entries()) {
        const same = expected[i]!;
        expect(counts).toEqual(same.counts);
        expect(Math.abs(loss! / same.loss! - 1)).toBeLessThan(1e-6);
        expect(Math.abs(gradientNorm / same.gradientNorm - 1)).toBeLessThan(1e-5);
        const microBatches = counts.tokens / (filled! * budget);
        expect(microBatches).toBeCloseTo(Math.round(microBatches), 9);
      }
      expect(distance(floatsOf(weightsOf(events)), values)).toBeLessThan(1e-6);
      const { run: path, statements } = startOf(events);
      expect(statements[1]).toBe(
        `4 records an update, packed into micro-batches of up to ${budget} tokens on 1 device`,
      );
      expect(statements[2]).toMatch(/^about \d+ tokens a record: about \d micro-batch/);
      const [line] = readFileSync(join(path!, 'metrics.jsonl'), 'utf8').split('\n');
      expect(JSON.parse(line!)).toMatchObject({ filled: updates[0]!.filled });
      shown.push(Math.round(updates[0]!.counts.tokens / (updates[0]!.filled! * budget)));
    }
    expect(shown).toEqual([4, 2, 1]);
    expect(expected[0]).not.toHaveProperty('filled');
  });

  test('that goes on with a budget of tokens has the updates that it would have had', async () => {
    const more = { effectiveBatch: 4, schedule: { epochs: 1 }, optimizer: CALM };
    const whole = await run(more);
    const first = await run(more, { maxUpdates: 1 });
    const set = [`batchTokens=${LENGTH}`];
    const rest = await all(resumeRun(startOf(first).run!, { set }));
    expect(startOf(rest)).toMatchObject({ resumedFrom: 1 });
    for (const [i, loss] of lossesOf(rest).entries()) {
      expect(loss).toBeCloseTo(lossesOf(whole)[i + 1]!, 5);
    }
    expect(lossesOf(rest)).toHaveLength(2);
  });

  test('takes a record that is as long as the budget; of a longer one becomes what the recipe says', async () => {
    const source = writeRecords('budget.jsonl', [
      colourRecord(0, null),
      { ...colourRecord(1), image: ['0.png', '1.png'], conversations: TWO_PICTURES },
    ]);
    const data = { sources: [source], workers: 0, shuffle: false };
    const more = (budget: number, rest: Partial<RecipeInput> = {}): Partial<RecipeInput> => ({
      ...{ data, schedule: { epochs: 1 } },
      ...packed(budget),
      ...rest,
    });
    const [all] = updatesOf(await run(more(1000)));
    const { tokens } = updatesOf(await run(more(1000, { data: { ...data, limit: 1 } })))[0]!.counts;
    const longer = all!.counts.tokens - tokens;
    const [exact] = updatesOf(await run(more(longer)));
    expect(exact).toMatchObject({ counts: all!.counts, filled: all!.counts.tokens / (2 * longer) });

    const [cut] = updatesOf(await run(more(longer - 1)));
    expect(cut!.counts).toMatchObject({ tokens: all!.counts.tokens - 1, truncated: 1 });
    const skipped = await run(more(longer - 1, { text: { overlong: 'skip' } }));
    expect(updatesOf(skipped)[0]!.counts).toMatchObject({ sequences: 1, tokens });
    expect(skipped.at(-1)).toMatchObject({ badRecords: 1 });
    await expect(run(more(longer - 1, { text: { overlong: 'stop' } }))).rejects.toMatchObject({
      code: 'E_OVERLONG',
      message: expect.stringContaining(`${source}:2: `) as string,
      hint: expect.stringContaining('`batchTokens`') as string,
    });
    await expect(run(more(1000, { batchImages: 1 }))).rejects.toMatchObject({
      code: 'E_BATCH_IMAGES',
      message: expect.stringMatching(/budget.jsonl:2, id 1: the record has 2 images/) as string,
    });
  });

  test('that goes on tells the answers before the first update again, and keeps them once', async () => {
    const probes = { questions: [{ text: 'What?', images: [at('0.png')] }], maxNewTokens: 3 };
    const first = await run({ probes }, { maxUpdates: 2 });
    const rest = await all(resumeRun(startOf(first).run!, { maxUpdates: 3 }));
    const asked = (events: readonly TrainEvent[]): object[] =>
      events.filter(({ type }) => type === 'probes');
    expect(asked(rest)).toHaveLength(2);
    expect(asked(rest)[0]).toMatchObject(asked(first)[0]!);
    const kept = ofType(await readEvents(startOf(first).run!), 'probes');
    expect(kept.map(({ update }) => update)).toEqual([0, 2, 3]);
  });

  test('that is killed between checkpoints goes on from the last one to the bit', async () => {
    const checkpoints = { everyUpdates: 3, keep: 9, background: false };
    const more = { checkpoints, run: { root: runs(), name: 'mine' } };
    const whole = await run({ ...more, run: { root: runs(), name: 'whole' } });
    const script = `
      import { train } from ${JSON.stringify(pathToFileURL(join(packageRoot(), 'dist/src/index.js')).href)};
      for await (const event of train(${JSON.stringify(recipe(more))}, {})) {
        if (event.type === 'update' && event.update === 8) process.kill(process.pid, 'SIGKILL');
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
    const [, signal] = (await once(child, 'exit')) as [unknown, string];
    expect(signal).toBe('SIGKILL');
    const path = at('runs', 'mine');
    expect((await listRuns(runs())).find((each) => each.path === path)).toMatchObject({
      state: 'crashed',
      updates: 8,
    });
    const rest = await all(resumeRun(path));
    expect(startOf(rest)).toMatchObject({ resumedFrom: 6 });
    expect(lossesOf(rest)).toEqual(lossesOf(whole).slice(6));
    expect(weightsOf(rest).equals(weightsOf(whole))).toBe(true);
    // What the dead process had written beyond that is forgotten.
    const [summary] = (await listRuns(runs())).filter((each) => each.path === path);
    expect(summary!.losses).toEqual(lossesOf(whole));
  });

  test('comes to the same with any number of threads that read', async () => {
    const [none, two] = await Promise.all(
      [0, 2].map((workers) => run({ data: { ...recipe().data, workers } })),
    );
    expect(lossesOf(two!)).toEqual(lossesOf(none!));
    expect(weightsOf(two!).equals(weightsOf(none!))).toBe(true);
  });

  test('of a dry run tells what would happen, and makes nothing', async () => {
    const events = await run({}, { dryRun: true });
    expect(events.map(({ type }) => type)).toEqual(['loading', 'loading', 'start', 'end']);
    expect(existsSync(runs())).toBe(false);
  });

  test('warns before the first update of a template that ends no answer', async () => {
    const plain = at('plain.jinja');
    writeFileSync(
      plain,
      '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}',
    );
    for (const options of [{ dryRun: true }, { maxUpdates: 1 }]) {
      const types = (await run({ text: { template: plain } }, options)).map((event) =>
        event.type === 'warning' ? event.code : event.type,
      );
      expect(types.slice(2, 4)).toEqual(['start', 'end-not-learned']);
    }
    const usual = await run({}, { maxUpdates: 1 });
    expect(usual.filter(({ type }) => type === 'warning')).toEqual([]);
  });

  test('with a SigLIP squeezes pictures, and warns where the recipe has them otherwise', async () => {
    const vision = { ...TINY_CONFIG.vision_config, model_type: 'siglip_vision_model' };
    const config = {
      ...TINY_CONFIG,
      vision_config: vision,
      vision_feature_select_strategy: 'full',
    };
    const model = { config, tokenizer: at('tokenizer') };
    const tall = join(LLAVA, 'llama3', 'pictures', '0-0.png');
    const sources = [
      writeRecords(
        'tall.jsonl',
        [1, 2, 3, 4].map((i) => colourRecord(i, tall)),
      ),
    ];
    const trained = async (image: RecipeInput['image']) => {
      const events = await run({ model, image, data: { sources } }, { maxUpdates: 2 });
      const losses = lossesOf(events);
      expect(losses).toHaveLength(2);
      expect(losses.every(Number.isFinite)).toBe(true);
      const codes = events.flatMap((each) => (each.type === 'warning' ? [each.code] : []));
      return { losses, codes, statements: startOf(events).statements };
    };
    const [own, squeezed, padded] = [
      await trained({}),
      await trained({ mode: 'squeeze' }),
      await trained({ mode: 'pad' }),
    ];
    expect(own).toEqual(squeezed);
    expect(own.codes).toEqual([]);
    expect(own.statements).toContain('pictures are squeezed to 8 x 8 (image.mode: squeeze)');
    expect(padded.codes).toEqual(['pictures-not-squeezed']);
    expect(padded.statements).toContain(
      "pictures are padded to 8 x 8 (image.mode: pad); the model's image processor has them squeezed",
    );
    expect(padded.losses).not.toEqual(own.losses);
  });

  test('keeps the way of pictures of a run that goes on; another over CLIP pads them', async () => {
    const first = await run({ image: { mode: 'crop' } }, { maxUpdates: 2 });
    const cropped = expect.arrayContaining([expect.stringMatching(/^pictures are cropped/)]) as [];
    const from = (first.at(-1) as { checkpoint: string }).checkpoint;
    const second = await run({ model: { from } }, { maxUpdates: 1 });
    const padded = /^pictures are padded .*; the model's image processor has them cropped/;
    expect(startOf(second).statements).toContainEqual(expect.stringMatching(padded));
    const rest = await all(resumeRun(startOf(first).run!, { maxUpdates: 3 }));
    expect(startOf(rest).statements).toEqual(cropped);
  });

  test('tells how far downloads are', async () => {
    const hub = await LoopbackHub.start();
    const files = { 'train.jsonl': readFileSync(at('one.jsonl'), 'utf8') };
    const commit = 'c'.repeat(40);
    hub.repositories.set('datasets/org/colours', { kind: 'dataset', commit, files });
    vi.stubEnv('HF_ENDPOINT', hub.endpoint);
    vi.stubEnv('HF_HOME', at('hub'));
    try {
      const told: HubEvent[] = [];
      await run(
        { data: { sources: [{ path: 'org/colours', images: folder.path }], workers: 0 } },
        { dryRun: true, onDownload: (event) => told.push(event) },
      );
      expect(told.at(-1)).toMatchObject({
        type: 'progress',
        repository: 'org/colours',
        files: 1,
        totalFiles: 1,
      });
    } finally {
      vi.unstubAllEnvs();
      await hub.stop();
    }
  });

  test('left early is a run that was interrupted', async () => {
    for await (const event of train(recipe())) if (event.type === 'update') break;
    expect(await listRuns(runs())).toMatchObject([{ state: 'interrupted', updates: 1 }]);
  });

  test('counts, tells and lists bad records where they may be skipped', async () => {
    const source = writeRecords('bad.jsonl', [
      colourRecord(1),
      colourRecord(2, 'missing.png'),
      colourRecord(3),
    ]);
    const events = await run({
      data: { sources: [source], badRecords: 'skip', workers: 0, shuffle: false },
      schedule: { epochs: 1 },
    });
    const bad = events.filter(({ type }) => type === 'bad-record');
    expect(bad).toMatchObject([{ record: { line: 2, file: source } }]);
    expect(events.at(-1)).toMatchObject({ badRecords: 1 });
    expect(readFileSync(join(startOf(events).run!, 'events.jsonl'), 'utf8')).toContain(
      '"type":"bad-record"',
    );
  });

  test('tells each kind of odd record once, and counts them over all sittings', async () => {
    const odd = (i: number): object => ({
      id: i,
      conversations: [
        { from: 'human', value: 'a' },
        { from: 'gpt', value: 'b' },
        { from: 'gpt', value: 'c' },
      ],
    });
    const list = [colourRecord(0), odd(1), colourRecord(2), odd(3), odd(4), colourRecord(5)];
    const source = writeRecords('odd.jsonl', list);
    const more: Partial<RecipeInput> = {
      data: { sources: [source], shuffle: false, workers: 1 },
      schedule: { epochs: 2, decay: 'constant', finalRatio: 0.5 },
    };
    const first = await run(more, { maxUpdates: 2 });
    const kinds = (events: readonly TrainEvent[]): unknown[] =>
      events.flatMap((event) => (event.type === 'warning' ? [[event.code, event.update]] : []));
    expect(kinds(first)).toEqual([
      ['final-ratio-unused', 0],
      ['consecutive-answers', 1],
    ]);
    const told = first.find((event) => event.type === 'warning' && event.update === 1)!;
    expect(told).toMatchObject({ record: { file: source, line: 2, id: 1 } });
    expect((told as { message: string }).message).toBe(
      `${source}:2, id 1: an answer follows an answer`,
    );
    expect(first.findIndex(({ type }) => type === 'update')).toBeGreaterThan(first.indexOf(told));
    expect(first.at(-1)).toMatchObject({ warnings: { 'consecutive-answers': 2 } });
    const path = startOf(first).run!;
    const rest = await all(resumeRun(path));
    expect(kinds(rest)).toEqual([['final-ratio-unused', 2]]);
    expect(rest.at(-1)).toMatchObject({ warnings: { 'consecutive-answers': 6 } });
    expect(loggedWarnings(await readEvents(path))).toMatchObject([
      { code: 'final-ratio-unused', records: null },
      { code: 'consecutive-answers', records: 6 },
    ]);
  });

  test.each([
    ['batchSize=3', 2],
    ['accumulate=3', 1],
    ['batchSize=1', 4],
  ])('that goes on with %s ends with its epochs', async (set, inEpoch) => {
    const records = (events: readonly TrainEvent[]): number[] => {
      const seen = [0, 0];
      for (const event of events) {
        if (event.type === 'update') seen[event.epoch]! += event.counts.sequences;
      }
      return seen;
    };
    const more = {
      data: { ...recipe().data, grouping: 'modality' },
      schedule: { epochs: 2 },
    } as const;
    const first = await run(more, { maxUpdates: 3 });
    const path = startOf(first).run!;
    const rest = await all(resumeRun(path, { set: [set] }));
    const [a, b] = [records(first), records(rest)];
    expect([a[0]! + b[0]!, a[1]! + b[1]!]).toEqual([10, 10]);
    expect(rest.filter((e) => e.type === 'update' && e.epoch === 0)).toHaveLength(inEpoch);
    expect(rest.at(-1)).toMatchObject({
      reason: 'finished',
      update: startOf(rest).updates.planned,
    });
    expect(startOf(rest).statements.at(-1)).toMatch(
      /^from update 4 on \d records an update in place of 2/,
    );
  });

  test('that a bad record stops is saved before, and goes on without it', async () => {
    const records = [1, 2, 3, 4, 5].map((i) =>
      colourRecord(i, i === 4 ? 'missing.png' : undefined),
    );
    const source = writeRecords('stops.jsonl', records);
    const more = { data: { sources: [source], shuffle: false }, batchSize: 1 };
    const events: TrainEvent[] = [];
    await expect(async () => {
      for await (const event of train(recipe(more))) events.push(event);
    }).rejects.toMatchObject({ code: 'E_IMAGE_UNREADABLE', exitCode: 4 });
    expect(events.at(-1)).toMatchObject({ type: 'checkpoint', update: 3 });
    const path = startOf(events).run!;
    expect(await listRuns(runs())).toMatchObject([{ state: 'failed', updates: 3 }]);
    const rest = await all(resumeRun(path, { set: ['data.badRecords=skip'] }));
    expect(startOf(rest)).toMatchObject({ resumedFrom: 3 });
    expect(rest.at(-1)).toMatchObject({ reason: 'finished', update: 10, badRecords: 2 });
  });

  test('that goes on with a changed recipe keeps the change', async () => {
    const first = await run({ schedule: { epochs: 1 } });
    const path = startOf(first).run!;
    const set = ['schedule.epochs=2'];
    const second = await all(resumeRun(path, { set, maxUpdates: 7 }));
    expect(second.at(-1)).toMatchObject({ reason: 'max-updates', update: 7 });
    expect(await listRuns(runs())).toMatchObject([{ updates: 7, plannedUpdates: 10 }]);
    const third = await all(resumeRun(path));
    expect(third.at(-1)).toMatchObject({ reason: 'finished', update: 10 });
  });

  test('leaves no tensor behind', async () => {
    await expect(() => run({ schedule: { updates: 1 } })).toLeakNothing();
    await expect(() => run({}, { dryRun: true })).toLeakNothing();
  });

  test('leaves no tensor behind where pictures are prepared in an unknown way', async () => {
    const tokenizer = at('odd');
    cpSync(at('tokenizer'), tokenizer, { recursive: true });
    writeFileSync(join(tokenizer, 'preprocessor_config.json'), '{"do_resize": false}');
    const { model } = recipe();
    await expect(async () => {
      await expect(run({ model: { ...model, tokenizer } })).rejects.toMatchObject({
        code: 'E_CONFIG',
      });
    }).toLeakNothing();
  });
});
