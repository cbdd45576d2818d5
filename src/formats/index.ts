/** The room of formats: what lies in files of weights, described without being read, and how it differs from what a model needs. */

export { TensorsError, type TensorFault } from './layouts/check-tensors.js';
export type { PartFacts, WeightSource } from './layouts/inspect.js';
export { type LayoutName, MODEL_PARTS, type ModelPart, type PartName } from './layouts/tables.js';
export type { StoredDType, StoredTensor } from './stored.js';
export { openWeights, type Weights, type WeightsOptions } from './weights.js';
