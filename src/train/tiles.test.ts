/**
 * Whole runs of a LLaVA-NeXT and a LLaVA-OneVision: pictures in tiles of many shapes, packed or not, loaded by threads or not; what is
 * learned is kept.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import type { RecipeInput } from '../config/index.js';
import { IMAGE_NEWLINE } from '../formats/layouts/tables.js';
import { exportModel, loadLlava } from '../models/index.js';
import type { TrainEvent } from './events.js';
import { train } from './train.js';

const FIXTURES = join(packageRoot(), 'test', 'fixtures', 'llava');

interface Told {
  readonly size: [number, number];
  readonly tokens: number;
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-tiles-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

interface Ran {
  readonly checkpoint: string;
  readonly updates: readonly Extract<TrainEvent, { type: 'update' }>[];
}

async function runOf(recipe: RecipeInput): Promise<Ran> {
  const updates: Extract<TrainEvent, { type: 'update' }>[] = [];
  for await (const event of train(recipe)) {
    if (event.type === 'update') updates.push(event);
    if (event.type === 'end') return { checkpoint: event.checkpoint!, updates };
  }
  throw new Error('the run had no end');
}

async function newlineOf(source: string): Promise<number[]> {
  const { model } = await loadLlava(source);
  const values = model.namedParameters().get(IMAGE_NEWLINE)!.toArray() as number[];
  model.dispose();
  return values;
}

describe.each([
  ['next-llama3', 'llava_next', undefined],
  // Where there are two pictures each is seen as one square.
  ['onevision-qwen2', 'llava_onevision', 4 ** 2 + 1],
])('%s', (variant, type, beside) => {
  const MODEL = join(FIXTURES, variant, 'hf');
  const told = JSON.parse(readFileSync(join(FIXTURES, variant, 'sizes.json'), 'utf8')) as Told[];

  let runs: string;
  let data: string;
  beforeAll(() => {
    runs = mkdtempSync(join(folder, 'runs-'));
    data = join(runs, 'data.json');
    const records = told.map((_, i) => {
      // One, two or no pictures.
      const shown = i % 3 === 0 ? [] : i % 3 === 1 ? [i] : [i, (i + 5) % told.length];
      return {
        images: shown.map((k) => join(FIXTURES, 'next-llama3', 'pictures', `size-${k}.png`)),
        conversations: [
          { from: 'human', value: `${'<image>\n'.repeat(shown.length)}Which?` },
          { from: 'gpt', value: `It is number ${i}.` },
        ],
      };
    });
    writeFileSync(data, JSON.stringify(records));
  });

  const ran = (more: Partial<RecipeInput>): Promise<Ran> =>
    runOf({
      name: 'tiles',
      model: { from: MODEL },
      train: { vision: 'frozen', projector: 'full', decoder: 'frozen' },
      data: { sources: [data], workers: 0 },
      optimizer: { learningRate: 5e-3 },
      run: { root: runs },
      device: 'cpu',
      batchSize: 3,
      ...more,
    });

  /** Tokens of the pictures of all records together, as the reference counts them. */
  function pictureTokens(): number {
    const tokensOf = (k: number): number => beside ?? told[k % told.length]!.tokens;
    return told.reduce(
      (sum, { tokens }, i) =>
        sum + (i % 3 === 0 ? 0 : i % 3 === 1 ? tokens : tokensOf(i) + tokensOf(i + 5)),
      0,
    );
  }

  test('a record has the tokens of its pictures; threads and packing change no loss', async () => {
    const loadedBy = (workers: number): RecipeInput['data'] => ({
      sources: [data],
      workers,
      shuffle: false,
    });
    const [inline, threads, packed] = [
      await ran({ data: loadedBy(0), batchSize: 3, accumulate: 2 }),
      await ran({ data: loadedBy(1), batchSize: 3, accumulate: 2 }),
      await ran({ data: loadedBy(0), batchSize: undefined, batchTokens: 400, effectiveBatch: 6 }),
    ];
    const sum = ({ updates }: Ran): number =>
      updates.reduce((total, { counts }) => total + counts.imageTokens, 0);
    expect(sum(inline)).toBe(pictureTokens());
    expect(sum(packed)).toBe(pictureTokens());
    const losses = ({ updates }: Ran): number[] => updates.map(({ loss }) => loss!);
    expect(losses(threads)).toEqual(losses(inline));
    for (const [i, loss] of losses(packed).entries()) {
      expect(loss).toBeCloseTo(losses(inline)[i]!, 5);
    }
  });

  describe('the newline learns with the projector, and is kept', () => {
    test.each<[string, RecipeInput['train']]>([
      ['in the part that trained', { vision: 'frozen', projector: 'full', decoder: 'frozen' }],
      ['in a whole model', { vision: 'frozen', projector: 'full', decoder: 'full' }],
      [
        'beside an adapter',
        { vision: 'frozen', projector: 'full', decoder: { lora: { rank: 2, alpha: 4 } } },
      ],
    ])('%s', async (where, parts) => {
      const before = await newlineOf(MODEL);
      const { checkpoint } = await ran({ train: parts });
      const learned = await newlineOf(checkpoint);
      expect(learned).not.toEqual(before);
      const whole = join(runs, where);
      await exportModel(checkpoint, 'hf', whole, { merge: true });
      expect(await newlineOf(whole)).toEqual(learned);
      const config = JSON.parse(readFileSync(join(whole, 'config.json'), 'utf8')) as object;
      expect(config).toMatchObject({ model_type: type });
      if (where !== 'beside an adapter') return;
      await expect(exportModel(checkpoint, 'peft', join(runs, 'adapter'))).rejects.toMatchObject({
        code: 'E_ADAPTER_FORM',
      });
    });

    test('a frozen one stays as it is, and an adapter alone is one of PEFT', async () => {
      const { checkpoint } = await ran({
        train: { vision: 'frozen', projector: 'frozen', decoder: { lora: { rank: 2, alpha: 4 } } },
      });
      expect(await newlineOf(checkpoint)).toEqual(await newlineOf(MODEL));
      await exportModel(checkpoint, 'peft', join(runs, 'plain-adapter'));
    });
  });
});
