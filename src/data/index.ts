/** Records of files to batches of samples: sources, checks, images, encoding, sampling, loading. */
export {
  openDataset,
  type DataRecipe,
  Dataset,
  type OpenDatasetOptions,
  type SourceFacts,
  type UpdatesOptions,
} from './dataset.js';
export {
  encodeJson,
  encodeRecord,
  expandImages,
  type EncodedSample,
  type EncodeOptions,
  type EncodeOutcome,
} from './encode.js';
export { formatWarnings, WARNINGS, type DataWarning, type FormatWarning } from './warnings.js';
export { decodeImage, type DecodeOptions } from './image/decode.js';
export { fitImage, type FitMode, type FitOptions } from './image/fit.js';
export { readImage } from './image/read-image.js';
export { ImageError, type ImageLimits, type Reading, type RgbImage } from './image/rgb-image.js';
export type { Exchange, OddSample, ShareFacts, UpdateData } from './loading/batches.js';
export { chooseTemplate, loadFormat, type TemplateChoice } from './loading/load-format.js';
export {
  microBatchOf,
  sumCounts,
  type DataCounts,
  type MicroBatch,
} from './loading/micro-batch.js';
export type { LoadedSample } from './loading/record-loader.js';
export type { RecordShape, RecordShapes } from './loading/record-shapes.js';
export type { ShapedUpdate } from './loading/shaped-updates.js';
export { parseRecord, type ParsedRecord } from './records/parse-record.js';
export {
  shownId,
  type ChatRecord,
  type ImageSource,
  type RecordId,
  type RecordProblem,
} from './records/record.js';
export {
  countUpdates,
  recordsDone,
  type Batching,
  type Cursor,
  type Place,
} from './sampling/plan.js';
export {
  describePlace,
  describeRejected,
  type RecordPlace,
  type RejectedRecord,
} from './sources/place.js';
