/** The benchmarks, and by which programs' rules each may be scored. */
import { didYouMean } from '../base/did-you-mean.js';
import { UsageError } from '../base/errors.js';
import type { Harness, HarnessName, Task } from './task.js';
import { asChoice, CHOICE } from './tasks/choice.js';
import { MMBENCH_LMMS_EVAL } from './tasks/mmbench-lmms-eval.js';
import { asPair, MME } from './tasks/mme.js';
import { REFCOCO, withBox } from './tasks/refcoco.js';
import { EXACT, GQA, TEXTVQA } from './tasks/short-answer.js';
import { asTurn } from './tasks/turn.js';
import { asYesNo, POPE } from './tasks/yes-no.js';

export const TASKS: readonly Task[] = [
  {
    name: 'exact',
    summary: 'your own questions, answered in the words that are given',
    harnesses: EXACT,
    source: 'It is a file of your own',
    fields:
      'question_id, question, answer (a text, or a list of which one is enough), image, category',
  },
  {
    name: 'choice',
    summary: 'your own questions with choices',
    refine: asChoice,
    harnesses: pick('vlmevalkit', 'llava', 'lmms-eval'),
    source: 'It is a file of your own',
    fields:
      'question_id, question, choices, answer (a letter, or a place counted from 0), image, hint, category',
  },
  {
    name: 'pope',
    summary: 'is this object in the picture, yes or no',
    harnesses: POPE,
    source:
      'coco_pope_*.json are in github.com/AoiDragon/POPE under output/coco, pictures are COCO val2014; VLMEvalKit has all in POPE.tsv',
    fields:
      'question_id, text, label, image, category, or index, image, question, answer, category; a folder of coco_pope_*.json',
    refine: (item) => ({
      ...asYesNo(item),
      categories: item.categories.flatMap((kind) => kind.split(',')),
    }),
  },
  {
    name: 'mme',
    summary: 'two questions on each picture, yes and no',
    harnesses: MME,
    source:
      'Its makers give MME_Benchmark_release_version (github.com/BradyFU/Awesome-Multimodal-Large-Language-Models), VLMEvalKit MME.tsv, lmms-eval lmms-lab/MME on the hub',
    fields:
      'index, image, image_path, question, answer, category, or question_id, image, question, answer, category; the folder of its makers',
    refine: (item) => asPair(asYesNo(item)),
  },
  {
    name: 'mmbench',
    summary: 'choices in every turn, right where all turns are',
    harnesses: { ...pick('vlmevalkit', 'xtuner'), 'lmms-eval': MMBENCH_LMMS_EVAL },
    source:
      'OpenCompass has mmbench_dev_*.tsv and mmbench_test_*.tsv, VLMEvalKit MMBench_DEV_EN.tsv and so on',
    fields: 'index, image, question, hint, A, B, C, D, answer, category, l2-category',
    refine: (item) => asTurn(asChoice(item)),
  },
  {
    name: 'scienceqa',
    summary: 'school questions with choices',
    refine: asChoice,
    harnesses: pick('llava', 'vlmevalkit', 'lmms-eval'),
    source:
      'problems.json and the pictures are in github.com/lupantech/ScienceQA; VLMEvalKit has ScienceQA_TEST.tsv',
    fields:
      'question_id, question, choices, answer (a place counted from 0), image, hint, category, or index, image, question, hint, A to E, answer',
  },
  {
    name: 'textvqa',
    summary: 'what is written in the picture',
    harnesses: TEXTVQA,
    source:
      'TextVQA_0.5.1_val.json and train_val_images.zip are at textvqa.org; VLMEvalKit has TextVQA_VAL.tsv',
    fields: 'question_id, question, answers (of ten people), image or image_id',
  },
  {
    name: 'gqa',
    summary: 'questions on what is where in the picture',
    harnesses: GQA,
    source:
      'testdev_balanced_questions.json and the pictures are at cs.stanford.edu/people/dorarad/gqa; VLMEvalKit has GQA_TestDev_Balanced.tsv',
    fields: 'question_id, question, answer, image or imageId',
  },
  {
    name: 'refcoco',
    summary: 'the box of what a phrase names',
    harnesses: REFCOCO,
    refine: withBox,
    source: 'XTuner makes the JSON with `xtuner preprocess refcoco`; pictures are COCO train2017',
    fields: 'img_id, sents, bbox (x, y, width, height), width, height',
  },
];

function pick(...names: (keyof typeof CHOICE)[]): Task['harnesses'] {
  return Object.fromEntries(names.map((name) => [name, CHOICE[name]]));
}

export function taskNames(): string[] {
  return TASKS.map(({ name }) => name);
}

/** @throws UsageError `E_EVAL_TASK` */
export function findTask(name: string): Task {
  const task = TASKS.find((each) => each.name === name);
  if (task !== undefined) return task;
  const nearest = didYouMean(name, taskNames());
  throw new UsageError(`There is no task ${name}.`, {
    code: 'E_EVAL_TASK',
    hint:
      nearest === undefined
        ? `Choose one of ${taskNames().join(', ')}.`
        : `Did you mean ${nearest}?`,
  });
}

/** @throws UsageError `E_EVAL_HARNESS` */
export function findHarness(
  task: Task,
  name?: string,
): { readonly name: HarnessName; readonly harness: Harness } {
  const known = Object.entries(task.harnesses) as [HarnessName, Harness][];
  const found = name === undefined ? known[0] : known.find(([each]) => each === name);
  if (found !== undefined) return { name: found[0], harness: found[1] };
  throw new UsageError(`${task.name} is not scored by the rules of ${name!}.`, {
    code: 'E_EVAL_HARNESS',
    hint: `Choose one of ${known.map(([each]) => each).join(', ')}.`,
  });
}
