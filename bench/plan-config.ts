/** Configurations of `bench/plan.ts`: a file's, read and completed. */

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { UsageError } from '../src/base/errors.js';
import { checkRecipe, type Recipe } from '../src/config/index.js';
import { parseYaml } from '../src/config/yaml-file.js';
import { betweenOf as betweenOfRecipe } from '../src/plan/between.js';
import type { ModelConfig } from '../src/plan/shape-model.js';
import type { BetweenUpdates, RecordShape } from '../src/train/index.js';
import { llava8bJson } from './shapes.js';

/** Tokens of text before the answer. */
const QUESTION = 20;

const count = z.number().int().positive();

const records = z.array(
  z.strictObject({
    text: count,
    images: z.number().int().min(0).default(0),
    count: count.default(1),
  }),
);

const shape = z.strictObject({
  name: z.string(),
  model: z
    .strictObject({
      layers: count.default(32),
      hidden: count.default(4096),
      text: z.boolean().default(false),
    })
    .default({ layers: 32, hidden: 4096, text: false }),
  set: z.record(z.string(), z.unknown()).default({}),
  batch: records.min(1),
  between: z
    .strictObject({
      validation: records.default([]),
      probes: z
        .array(
          z.strictObject({
            text: count,
            images: z.number().int().min(0).default(0),
            newTokens: count.default(64),
          }),
        )
        .default([]),
    })
    .optional(),
  updates: count.default(3),
  ranks: count.default(1),
  limitGiB: z.number().positive().nullable().default(null),
});

const config = shape.superRefine(({ model, batch }, context) => {
  const at = batch.findIndex(({ images }) => images > 0);
  if (!model.text || at < 0) return;
  const message = 'a decoder alone takes no pictures';
  context.addIssue({ code: 'custom', path: ['batch', at, 'images'], message });
});

export type PlanConfig = z.infer<typeof config>;

/** What stands in the place of one and is none. */
export interface NoConfig {
  readonly name: string;
  /** With lines and fields. */
  readonly faults: string;
  /** As the file has it. */
  readonly given: unknown;
}

export interface Configs {
  readonly good: readonly PlanConfig[];
  readonly bad: readonly NoConfig[];
}

/** @throws UsageError `E_USAGE` for a file that is no list; those of `parseYaml` */
export function readConfigs(file: string | undefined): Configs {
  const hint = 'Give a JSON file as the head of bench/plan.ts describes it.';
  const refuse = (message: string, cause?: unknown): UsageError =>
    new UsageError(message, { code: 'E_USAGE', hint, cause });
  if (file === undefined) throw refuse('which configurations?');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw refuse(`${file}: ${(cause as Error).message}`, cause);
  }
  const { value, locate } = parseYaml(text, file);
  if (!Array.isArray(value)) throw refuse(`${locate([])}: expected a list of configurations`);
  const good: PlanConfig[] = [];
  const bad: NoConfig[] = [];
  value.forEach((given: unknown, i) => {
    const parsed = config.safeParse(given);
    if (parsed.success) {
      good.push(parsed.data);
      return;
    }
    const faults = parsed.error.issues.map(({ path, message }) => {
      const place = [i, ...path].map((step) => (typeof step === 'symbol' ? String(step) : step));
      return `${locate(place)}: ${place.join('.')}: ${message}`;
    });
    bad.push({ name: nameOf(given) ?? `number ${i + 1}`, faults: faults.join('; '), given });
  });
  return { good, bad };
}

function nameOf(given: unknown): string | undefined {
  const parsed = z.object({ name: z.string() }).safeParse(given);
  return parsed.data?.name;
}

/** One configuration, completed. @throws ZodError */
export const configOf = (value: unknown): PlanConfig => config.parse(value);

/** Of a model that is there, as one on a base in few bits has to be, of which the planner takes the shape. */
export function recipeOf(config: PlanConfig): Recipe {
  const { model, set, limitGiB } = config;
  const { text, ...shape } = model;
  const llava = llava8bJson(shape);
  const recipe = checkRecipe(
    {
      ...{ name: 'plan', model: { from: 'x' }, data: { sources: ['x'] } },
      train: { decoder: 'full', ...(text ? {} : { projector: 'full' }) },
      optimizer: { learningRate: 1e-5 },
      ...batchOf(config),
      text: { maxLength: Math.max(...recordsOf(config).map(({ tokens }) => tokens)) },
      ...(limitGiB !== null && { memory: { limit: limitGiB } }),
    },
    { set: Object.entries(set).map(([field, value]) => `${field}=${textOf(value)}`) },
  );
  return { ...recipe, model: { ...recipe.model, config: text ? llava.text_config : llava } };
}

/** Records that are packed are as many as those that are given, unless it is said. */
function batchOf(config: PlanConfig): { batchSize: number } | { effectiveBatch: number } {
  const { length } = recordsOf(config);
  return 'batchTokens' in config.set
    ? { effectiveBatch: length * config.ranks }
    : { batchSize: length };
}

/** As `--set` takes it. */
const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : JSON.stringify(value);

/** The records of a micro-batch; a picture's tokens come on top of the text's. */
export function recordsOf({ batch, model }: Pick<PlanConfig, 'batch' | 'model'>): RecordShape[] {
  const picture = featuresOf(model);
  return batch.flatMap(({ text, images, count: times }) =>
    Array<RecordShape>(times).fill({
      tokens: text + images * picture,
      supervised: Math.max(1, text - QUESTION),
      images,
    }),
  );
}

/** What comes after the first update: what is said there, else what the recipe asks for; `null` for nothing. */
export function betweenOf(
  config: PlanConfig,
  recipe: Recipe,
  model: ModelConfig,
): BetweenUpdates | null {
  const { between } = config;
  if (between === undefined) {
    const isAsked = recipe.validation !== undefined || recipe.probes.questions.length > 0;
    return isAsked ? betweenOfRecipe(recipe, { model, batch: recordsOf(config) }) : null;
  }
  const picture = featuresOf(config.model);
  return {
    validation: recordsOf({ batch: between.validation, model: config.model }),
    probes: between.probes.map(({ text, images, newTokens }) => {
      return { tokens: text + images * picture, images, newTokens };
    }),
    // A checkpoint is that of a run from files.
    isBeneath: () => true,
  };
}

/** Tokens of a picture. */
function featuresOf(model: PlanConfig['model']): number {
  const { image_size: size, patch_size: patch } = llava8bJson(model).vision_config;
  return (size / patch) ** 2;
}
