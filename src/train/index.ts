/** The room of training: runs as streams of events, the loop, the step program, what trains, run folders. */

export type * from './events.js';
export { STEP_PARTS, type StepPart } from './profile/step-parts.js';
export type { Longest, StepProfile } from './profile/step-profile.js';
export { memoryPolicies, type MemoryPolicy } from './step/memory-policy.js';
export { openModel, type OpenedModel, type OpenModelOptions } from './prepare/open-model.js';
export { pictureWarnings } from './prepare/picture-mode.js';
export { choosePrecision, type ChosenPrecision } from './prepare/precision.js';
export * from './checkpoint/checkpoints.js';
export * from './run/list-runs.js';
export * from './run/logs.js';
export { RunFolder } from './run/run-folder.js';
export type { RunFacts, RunState } from './run/run-state.js';
export { SAVE_SIGNAL, SaveRequests } from './run/save-request.js';
export { rankPatience, refuseOneGpu } from './run/ranks.js';
export { weightsIn } from './run/run-weights.js';
export type { ChoiceRow } from './prepare/bases.js';
export { prepareTrainable, type Trainable, type TrainableRow } from './prepare/trainable.js';
export {
  resumeRun,
  train,
  type FirstLook,
  type ResumeOptions,
  type TrainOptions,
} from './train.js';
export type * from './loop/guard.js';
export type { RecordShape } from '../data/index.js';
export type {
  BetweenUpdates,
  PlannedFor,
  Predict,
  Prediction,
  ProbeShape,
  TypicalUpdate,
} from './loop/prediction.js';
export { guarded } from './loop/quarantine.js';
export { ofRanks } from './step/parameter-store.js';
export { runMicroBatch, type Step, type StepStore } from './step/step.js';
export type { UpdateSetup } from './step/update.js';
export { probeShapes } from './prepare/probe-shapes.js';
export { planRun, type RunPlan } from './prepare/run-plan.js';
export type { Answer } from './loop/looks.js';
export { Trainer, type TrainerParts, type TrainingData } from './loop/trainer.js';
export { TrainedWeights } from './checkpoint/trained-weights.js';
