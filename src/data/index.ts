/** Records of files to batches of samples: sources, checks, images, encoding, sampling, loading. */
export {
  openDataset,
  type DataRecipe,
  Dataset,
  type OpenDatasetOptions,
  type SourceFacts,
  type UpdatesOptions,
} from './dataset.js';
export type { UpdateData } from './loading/batches.js';
export { loadFormat } from './loading/load-format.js';
export type { DataCounts, MicroBatch } from './loading/micro-batch.js';
export type { LoadedSample } from './loading/record-loader.js';
export type { Batching, Cursor } from './sampling/plan.js';
export {
  describePlace,
  describeRejected,
  type RecordPlace,
  type RejectedRecord,
} from './sources/place.js';
