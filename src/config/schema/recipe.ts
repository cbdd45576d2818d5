/**
 * A recipe: everything that decides a training run, as one schema for TypeScript and YAML.
 *
 * The interface `RecipeInput` (recipe-input.generated.ts) and the published JSON Schema (recipe.schema.json) are made
 * from this schema: descriptions and defaults stand here and nowhere else.
 */
import { z } from 'zod';

import {
  dataSection,
  imageSection,
  probesSection,
  textSection,
  validationSection,
} from './data.js';
import { count, countOrZero, text } from './fields.js';
import { guardSection } from './guard.js';
import { modelSection, trainSection } from './model.js';
import {
  memorySection,
  optimizerSection,
  precisionSection,
  scheduleSection,
} from './optimization.js';
import { parallelSection } from './parallel.js';

const checkpointsSection = z
  .strictObject({
    everyUpdates: count
      .default(500)
      .describe('Updates between two checkpoints; there is one at the end.'),
    background: z
      .boolean()
      .default(true)
      .describe('Whether training goes on while one is written, from a copy in host memory.'),
    keep: count.default(2).describe('How many of the newest are kept.'),
    keepBest: z
      .boolean()
      .default(true)
      .describe(
        'Whether the one with the lowest validation loss, or highest score of `validation.best`, is kept besides.',
      ),
  })
  .meta({ id: 'Checkpoints' });

const runSection = z
  .strictObject({
    root: text.default('runs').describe('Folder in which the folder of the run is made.'),
    name: z
      .string()
      .regex(/^[\w.-]+$/, 'expected letters, digits, ".", "_" and "-"')
      .optional()
      .describe("Name of the run's folder; recipe, date and time if left out."),
    tensorboard: z
      .boolean()
      .default(true)
      .describe('Write TensorBoard events beside the JSON lines.'),
  })
  .meta({ id: 'Run' });

/** The fields alone, before contradictions between them are looked for. */
export const recipeFields = z
  .strictObject({
    $schema: z.string().optional().describe('For editors; Patina does not read it.'),
    name: z
      .string()
      .regex(/^\w[\w.-]*$/, 'expected letters, digits, ".", "_" and "-"')
      .describe('Name of the recipe; begins the name of its runs.'),
    description: z.string().optional().describe('What it is for and where its numbers come from.'),
    model: modelSection.describe('What the run starts from.'),
    train: trainSection.prefault({}).describe('Which parts learn: each is frozen, full, or LoRA.'),
    data: dataSection.describe('What is learnt from.'),
    text: textSection.prefault({}).describe('How conversations become tokens.'),
    image: imageSection.prefault({}).describe('How pictures become pixels.'),
    precision: precisionSection.prefault({}).describe('Number types.'),
    optimizer: optimizerSection.describe('AdamW.'),
    schedule: scheduleSection
      .prefault({})
      .describe('Length of the run and course of the learning rate, in updates.'),
    batchSize: count
      .optional()
      .describe(
        'Records in a micro-batch on each device: 1 if left out, unless `batchTokens` stands in its place.',
      ),
    batchTokens: count
      .optional()
      .describe(
        'In place of `batchSize`: tokens in a micro-batch on each device, at most, image tokens included. The records of an ' +
          'update (`effectiveBatch`) are packed into as few as hold them; longer ones are `text.overlong`.',
      ),
    batchImages: count
      .optional()
      .describe('Pictures in a micro-batch, at most, beside `batchTokens`. No limit if left out.'),
    accumulate: count
      .optional()
      .describe(
        'Micro-batches in an update. Follows from `effectiveBatch` if that is given, else 1.',
      ),
    effectiveBatch: count
      .optional()
      .describe('Records in an update over all devices, which the learning rate is meant for.'),
    learningRateRule: z
      .enum(['keep', 'linear', 'sqrt'])
      .default('keep')
      .describe(
        'What happens to learning rates when a run has another batch than `effectiveBatch`: nothing, or they follow ' +
          'the ratio or its square root. Always said at the start.',
      ),
    memory: memorySection.prefault({}).describe('What is kept for the backward pass.'),
    parallel: parallelSection
      .prefault({})
      .describe('What several processes, one for each GPU, share out.'),
    validation: validationSection
      .optional()
      .describe('Loss on data that is not learnt from, and scores of benchmarks.'),
    probes: probesSection
      .prefault({})
      .describe('Questions that the model answers while it learns.'),
    guard: guardSection.prefault({}).describe('What is done about updates that go wrong.'),
    checkpoints: checkpointsSection.prefault({}).describe('When to save, and what to keep.'),
    run: runSection.prefault({}).describe('Where the run is kept.'),
    seed: countOrZero.default(0).describe('Every random number of the run follows from it.'),
    device: z
      .string()
      .regex(/^(auto|cpu|cuda(:\d+)?)$/, 'expected "auto", "cpu", "cuda" or "cuda:<index>"')
      .default('auto')
      .describe('`auto` takes a GPU if there is one.'),
    threads: count
      .optional()
      .describe('Threads for computing on the CPU. libtorch decides if left out.'),
  })
  .meta({ id: 'Recipe' });

/** A recipe with all its defaults. */
export type Recipe = z.output<typeof recipeFields>;
export type PartRecipe = Recipe['train'][keyof Recipe['train']];
export type LoraRecipe = NonNullable<Extract<PartRecipe, object>['lora']>;
export type TaskRecipe = NonNullable<Recipe['validation']>['tasks'][number];
export type SourceRecipe = Recipe['data']['sources'][number];

/** The adapter of a part. */
export function loraOf(choice: PartRecipe): LoraRecipe | undefined {
  return typeof choice === 'object' ? choice.lora : undefined;
}

/** What the curve of a task is called. */
export function taskName({ name, task }: Pick<TaskRecipe, 'name' | 'task'>): string {
  return name ?? task;
}

/** Whether nothing of a part learns. */
export function isFrozen(choice: PartRecipe): boolean {
  return choice !== 'full' && loraOf(choice) === undefined;
}
