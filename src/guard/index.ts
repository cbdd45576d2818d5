/** The room of the guard: why a loss broke, and going on. */

export { CAUSES, type Cause } from './causes.js';
export { makeGuard, resumeRun, train } from './guarded-train.js';
