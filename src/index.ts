/** Patina's public API. */

export * from './base/errors.js';
export * from './nn/index.js';
export * from './optim/index.js';
export * from './torch/index.js';
