/** Patina's public API. */

export * from './base/errors.js';
export {
  resolveModel,
  type HubEvent,
  type HubNotice,
  type HubProgress,
  type ResolveOptions,
} from './base/hub/resolve.js';
export * from './config/index.js';
export * from './data/index.js';
export * from './formats/index.js';
export * from './generate/index.js';
export { evaluate, type EvaluateOptions, type Evaluation } from './eval/index.js';
export * from './guard/check/index.js';
export * from './models/index.js';
export * from './nn/index.js';
export * from './optim/index.js';
export * from './parallel/index.js';
export * from './recipes/index.js';
export * from './text/index.js';
export * from './torch/index.js';
export * from './train/index.js';
// Who trains from outside has a guard.
export { CAUSES, makeGuard, resumeRun, train, type Cause } from './guard/index.js';
// Written with the ends of turns, which the room of models cannot tell.
export { exportChatModel as exportModel } from './generate/index.js';
// Names that two rooms use: the model's stand here, the others are reached through their rooms.
export { IGNORED_LABEL, type LoadOptions } from './models/index.js';
