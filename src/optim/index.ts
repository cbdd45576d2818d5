/** The room of optimizers: AdamW, schedules, the gradient factor, the gate, loss scaling. */

export * from './adaptive-clip.js';
export * from './adamw.js';
export * from './adamw-state.js';
export * from './gate.js';
export * from './gradient-factor.js';
export * from './loss-scale.js';
export * from './schedule.js';
export * from './step-sizes.js';
