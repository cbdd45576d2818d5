/** The room of training: runs as streams of events, the loop, the step program, what trains, run folders. */

export type * from './events.js';
export { memoryPolicies, type MemoryPolicy } from './memory-policy.js';
export { openModel, type OpenedModel, type OpenModelOptions } from './open-model.js';
export { choosePrecision, type ChosenPrecision } from './precision.js';
export * from './run/checkpoints.js';
export * from './run/list-runs.js';
export { ofType, readEvents, type LoggedEvent } from './run/logged-events.js';
export * from './run/metrics.js';
export { RunFolder } from './run/run-folder.js';
export type { RunFacts, RunState } from './run/run-state.js';
export { weightsIn } from './run/run-weights.js';
export { prepareTrainable, type Trainable, type TrainableRow } from './trainable.js';
export { resumeRun, train, type ResumeOptions, type TrainOptions } from './train.js';
export { planRun, type RunPlan } from './plan-run.js';
export { Trainer, type Answer, type TrainerParts, type TrainingData } from './trainer.js';
export { TrainedWeights } from './trained-weights.js';
