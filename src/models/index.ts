/** The room of models: configurations, CLIP, the projector, the decoder, LLaVA as a list of segments, batches. */

export * from './batch.js';
export * from './clip.js';
export * from './config/clip-vision-config.js';
export * from './config/decoder-config.js';
export * from './config/llava-config.js';
export * from './config/projector-config.js';
export { ConfigError, type ConfigSource } from './config/read-config.js';
export * from './decoder.js';
export * from './language-model.js';
export * from './llava.js';
export * from './projector.js';
export * from './segment.js';
