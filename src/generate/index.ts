/** The room of generation: a cache of keys and values, sampling, answers as streams, conversations. */

export { type AnswerOptions, type FinishReason } from './answer.js';
export * from './batched-generator.js';
export { Channel } from './channel.js';
export * from './chat-model.js';
export * from './conversation.js';
export { expectUsed } from './expect-used.js';
export { exportChatModel } from './export-chat-model.js';
export * from './generate.js';
export { generateInStep, type Each, type InStepOptions } from './generate-in-step.js';
export * from './picture.js';
export { contextLength, type Prompt } from './prompt.js';
export type { SamplingOptions } from './sampling.js';
export { modelBeneath, tokenizerFolder } from './tokenizer-folder.js';
export type { TokenLogprob, TokenLogprobs } from './token-logprobs.js';
