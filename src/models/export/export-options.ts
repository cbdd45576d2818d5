/** What exporting takes and tells. */
import type { Nf4Form } from '../../nn/index.js';
import type { DType } from '../../torch/index.js';
import type { AssembleOptions } from '../load/assemble.js';

/** What a model can be written as. */
export const EXPORT_LAYOUTS = ['hf', 'official', 'peft'] as const;

export type ExportLayout = (typeof EXPORT_LAYOUTS)[number];

export interface ExportOptions extends AssembleOptions {
  /** Fold adapters into the weights, computed in fp32. @default false: adapters are refused, except for `peft` */
  merge?: boolean;
  /** Type of the weights. @default the one that the embeddings are stored in; of adapters, their own */
  dtype?: DType | undefined;
  /** Write the matrices of the decoder's blocks in NF4, with `hf` alone. @default as numbers of `dtype` */
  quantise?: Nf4Form | undefined;
  /** The chat template to write. @default the one of the source, else of the decoder */
  chatTemplate?: string | undefined;
  /** A template in place of one that gives pictures no place; it can ask for tokens. @default none */
  templateFor?: ((has: (token: string) => boolean) => string | undefined) | undefined;
  /**
   * The token that ends an answer in a chat template, spoken with the tokenizer of a folder, for `generation_config.json`.
   *
   * @default none: ends stay as they are found
   */
  endOfTurn?: ((folder: string, template: string) => Promise<number | undefined>) | undefined;
  /** Seed of rows for added tokens. @default 0 */
  seed?: number;
  /** Tensors that may be unexpected, and are left out, or not finite: patterns of names, `*` for anything. */
  allow?: readonly string[];
  /** Bytes of tensors per file. @default 5e9 */
  shardBytes?: number;
  /** Put the new folder in place of what is there. @default false */
  replace?: boolean;
  /** Called with the bytes written so far and in all. */
  onProgress?: (done: number, total: number) => void;
}

/** What was written. */
export interface ExportReport {
  readonly folder: string;
  readonly layout: ExportLayout;
  /** Names of the files, relative to the folder. */
  readonly files: readonly string[];
  readonly parameters: number;
  readonly bytes: number;
  /** Type of the weights. */
  readonly dtype: DType;
  /** What was decided on the way, a sentence each. */
  readonly notes: readonly string[];
}
