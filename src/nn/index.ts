/** The room of layers: the module tree, linear layers and adapters, norms, attention, embeddings, the loss head. */

export * from './activations.js';
export * from './attention-by-hand.js';
export * from './attention.js';
export * from './cross-entropy.js';
export * from './dropout.js';
export * from './embedding.js';
export * from './fp8.js';
export * from './gated.js';
export * from './initializers.js';
export * from './kernels.js';
export * from './linear.js';
export * from './lora.js';
export * from './module.js';
export * from './nf4.js';
export * from './norms.js';
export * from './parameter-gradients.js';
export * from './patches.js';
export * from './probe.js';
export * from './projection-parts.js';
export * from './projection.js';
export * from './quantised-form.js';
export * from './rotary.js';
export { asOne } from './side-by-side.js';
export * from './weight.js';
