/**
 * The room of models: configurations, the vision tower, the projector, the decoder, LLaVA as a list of segments, batches, loading and
 * exporting.
 */

export * from './batch.js';
export * from './configs/decoder-config.js';
export * from './configs/image-processor.js';
export * from './configs/llava-config.js';
export * from './configs/projector-config.js';
export * from './configs/vision-config.js';
export * from './configs/vision-families.js';
export { ConfigError, type ConfigSource } from './configs/read-config.js';
export * from './decoder.js';
export * from './language-model.js';
export * from './llava.js';
export * from './projector.js';
export * from './sample.js';
export * from './segment.js';
export * from './steps.js';
export * from './tiles.js';
export * from './vision-tower.js';
export * from './walk.js';
export * from './padded.js';
export { describeSource, type Lack, type SourceDescription } from './export/describe-source.js';
export { exportModel } from './export/export-model.js';
export { generationConfig } from './export/generation-json.js';
export * from './export/export-options.js';
export type { AdapterConfig } from './load/adapter-config.js';
export {
  assemble,
  assembleAny,
  type AssembledAdapter,
  type AssembleOptions,
  type Assembly,
  assembleText,
  type TextAssembly,
} from './load/assemble.js';
export type { BaseForm, BaseForms, BaseOption, BasePart } from './load/base-form.js';
export { configKind } from './load/assemble-config.js';
export { attachAdapters } from './load/attach-adapters.js';
export { requireFp8 } from './load/fp8-device.js';
export {
  findImageProcessor,
  findTiledProcessor,
  imageProcessorIn,
} from './load/find-image-processor.js';
export * from './load/load.js';
export {
  isOnTop,
  type ModelPlace,
  type PlaceRole,
  tensorsBeneath,
  textFolders,
} from './load/places.js';
export {
  difference,
  identify,
  type Identity,
  locate,
  type LocateOptions,
} from './provenance/locate.js';
export * from './provenance/provenance.js';
export { placeTensors, type Refill, type Placement, type PlaceOptions } from './load/place.js';
export * from './load/sources.js';
export * from './load/stored-dtype.js';
export * from './load/tensor-file.js';
export * from './load/unused-choices.js';
