/** The room of evaluation: benchmarks, asked and scored by the rules of the program that is named. */
export { storedAnswer } from './answers-file.js';
export { evaluate, type EvaluateOptions, type Evaluation } from './evaluate.js';
export type { Box, Item, Picture } from './item.js';
export { expectPictures, openTask, type OpenTask, type OpenTaskOptions } from './open-task.js';
export {
  type CategoryScore,
  compare,
  type Comparison,
  expectAnswered,
  grade,
  score,
  type Score,
} from './score.js';
export { writeSubmission } from './submission.js';
export { bootstrap, type Interval, mcnemar, wilson } from './statistics.js';
export type { Grade, Graded, Group, Harness, HarnessName, Task, Total } from './task.js';
export { findHarness, findTask, TASKS } from './tasks.js';
