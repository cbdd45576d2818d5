/** What is learnt from, and how records become tokens and pixels. */
import { z } from 'zod';

import { count, countOrZero, pathOrName, text } from './fields.js';

const sourceObject = z
  .strictObject({
    path: pathOrName.describe(
      'A JSON, JSONL or Parquet file, a folder of Parquet files, or a dataset on the hub. LLaVA records ' +
        '(`conversations`) and OpenAI messages (`messages`) are told apart by their keys.',
    ),
    images: text
      .optional()
      .describe(
        "Folder that the records' image paths start from. The folder of `path` if left out.",
      ),
    files: z
      .array(text)
      .min(1)
      .optional()
      .describe(
        'Patterns of the files to take from a dataset on the hub (`*` in a folder, `**` across).',
      ),
    origin: text
      .optional()
      .describe('Where the data can be had, in words; said where `path` or `images` is missing.'),
    weight: z
      .number()
      .positive()
      .default(1)
      .describe(
        'Passes over this source in an epoch; 0.5 takes a random half, drawn anew each epoch.',
      ),
    limit: count.optional().describe('Take only so many records, the first ones.'),
  })
  .meta({ id: 'Source' });

/** A source in short form is its path. */
export const sourceSection = z.union([
  text.transform((path) => sourceObject.parse({ path })),
  sourceObject,
]);

export const dataSection = z
  .strictObject({
    sources: z
      .array(sourceSection)
      .min(1)
      .describe('One or several sources; a text in place of an object is its path.'),
    shuffle: z.boolean().default(true).describe('Draw a new order for each epoch from the seed.'),
    grouping: z
      .enum(['none', 'length', 'modality'])
      .default('none')
      .describe(
        'Put records of like length into a batch (`length`), and never those with and without images together ' +
          '(`modality`).',
      ),
    workers: z
      .union([z.literal('auto'), countOrZero])
      .default('auto')
      .describe('Threads that read and encode; 0 uses the main thread. Changes no result.'),
    badRecords: z
      .enum(['stop', 'skip'])
      .default('stop')
      .describe(
        'At a record that cannot be used: stop, or count it, list it in the run and go on.',
      ),
    limit: count.optional().describe('Take only so many records of all sources together.'),
  })
  .meta({ id: 'Data' });

export const textSection = z
  .strictObject({
    template: text
      .default('auto')
      .describe(
        "`auto` for the model's own chat template; `llama3_chat`, `qwen_chat` or `vicuna` for XTuner's; else a Jinja file.",
      ),
    system: z.string().optional().describe('System message for records that bring none.'),
    maxLength: count
      .default(2048)
      .describe(
        "Tokens of a sequence, image tokens included (XTuner's limit counts an image as one).",
      ),
    overlong: z
      .enum(['truncate', 'skip', 'stop'])
      .default('truncate')
      .describe('At a longer record: cut its text (never an image), leave it out, or stop.'),
    specialTokens: z
      .enum(['text', 'parse'])
      .default('text')
      .describe(
        'Whether a special token spelled out inside a message stays text or becomes that token.',
      ),
  })
  .meta({ id: 'Text' });

export const imageSection = z
  .strictObject({
    mode: z
      .enum(['pad', 'crop', 'squeeze'])
      .optional()
      .describe(
        "Pad to a square with the mean colour, crop the centre, or squeeze: resize both sides, as SigLIP does. Left out: padded over CLIP; over others as a checkpoint was trained, else as the model's own image processor does.",
      ),
    reading: z
      .enum(['turned', 'stored'])
      .default('turned')
      .describe("Apply the camera's orientation, or read pixels as they are stored, like XTuner."),
  })
  .meta({ id: 'Image' });

const taskSection = z
  .strictObject({
    task: text.describe('What is asked, as `patina eval` names it: `pope`, `mme`, `exact`, ...'),
    name: z
      .string()
      .regex(/^\w[\w.-]*$/, 'expected letters, digits, ".", "_" and "-"')
      .optional()
      .describe('Name of its curve; that of the task if left out.'),
    data: text.describe('File of the questions with their answers.'),
    images: text.optional().describe('Folder of the pictures. That of `data` if left out.'),
    harness: text
      .optional()
      .describe('By whose rules it is asked and scored; the first of the task if left out.'),
    limit: count.optional().describe('Ask only so many questions, the first ones.'),
    rows: count.default(16).describe('Most questions that are answered at once, on each device.'),
    system: z
      .string()
      .optional()
      .describe('What is said before each question. As in training if left out.'),
  })
  .meta({ id: 'ValidationTask' });

export const validationSection = z
  .strictObject({
    fraction: z
      .number()
      .gt(0)
      .lt(1)
      .optional()
      .describe('Share of the training data held out, chosen by the seed.'),
    sources: z
      .array(sourceSection)
      .min(1)
      .optional()
      .describe('Data of its own, in place of `fraction`.'),
    tasks: z
      .array(taskSection)
      .default([])
      .describe(
        'Benchmarks that are asked at each validation, and before the first update: curves over training.',
      ),
    best: text
      .optional()
      .describe(
        'Name of one of `tasks`, whose score counts in place of the loss: for the best checkpoint and for `patience`.',
      ),
    everyUpdates: count
      .default(500)
      .describe('Updates between two validations; there is one at the end.'),
    limit: count.optional().describe('Use only so many records.'),
    patience: count
      .optional()
      .describe('Stop early after so many validations in a row without a lower loss.'),
    minimumImprovement: z
      .number()
      .min(0)
      .default(0)
      .describe('How much lower the loss, or higher the score, must be to count.'),
  })
  .meta({ id: 'Validation' });

const questionSection = z
  .strictObject({
    text: text.describe('The question.'),
    images: z.array(text).default([]).describe('Paths of the pictures it is about.'),
  })
  .meta({ id: 'Question' });

export const probesSection = z
  .strictObject({
    questions: z
      .array(questionSection)
      .default([])
      .describe(
        'Asked before the first update, at intervals and at the end; the answers are kept.',
      ),
    everyUpdates: count.default(500).describe('Updates between two rounds.'),
    maxNewTokens: count.default(64).describe('Longest answer.'),
  })
  .meta({ id: 'Probes' });
