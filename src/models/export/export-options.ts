/** What exporting takes and tells. */
import type { GgmlTypeName, GgufMetadata } from '../../formats/gguf/types.js';
import type { Nf4Form } from '../../nn/index.js';
import type { DType } from '../../torch/index.js';
import type { AssembleOptions } from '../load/assemble.js';

/** What a model can be written as. */
export const EXPORT_LAYOUTS = ['hf', 'official', 'peft', 'gguf'] as const;

export type ExportLayout = (typeof EXPORT_LAYOUTS)[number];

/** Element types of a GGUF file's matrices. */
export const GGUF_FILE_TYPES = ['f16', 'bf16', 'q8_0', 'q4_0'] as const;

export type GgufFileType = (typeof GGUF_FILE_TYPES)[number];

export interface ExportOptions extends AssembleOptions {
  /** Fold adapters into the weights, computed in fp32. @default false: adapters are refused; for `gguf` true, for `peft` they are written */
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
  /** Type of the matrices, with `gguf` alone. @default 'f16' */
  ggufType?: GgufFileType | undefined;
  /** Read the files back and compare every tensor with the source, with `gguf` alone. @default false */
  check?: boolean;
  /** What the files say of the language, with `gguf` alone. */
  speak?: GgufSpeaker | undefined;
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

/** What GGUF files hold besides weights: vocabulary and chat template, and the same for Ollama. */
export interface GgufSpeech {
  readonly metadata: GgufMetadata;
  /** Lines of the `Modelfile` after those that name the files. */
  readonly modelfile: readonly string[];
  /** Asks a runtime, where one is installed, what it reads in a file; a sentence each. */
  readonly probe: (file: string) => Promise<readonly string[]>;
  /** What was decided on the way, a sentence each. */
  readonly notes: readonly string[];
}

/**
 * Reads a tokenizer for a GGUF file.
 *
 * @param folder of the tokenizer
 * @param rows of the embeddings: as many tokens the file must have
 */
export type GgufSpeaker = (
  folder: string,
  rows: number,
  options: Pick<ExportOptions, 'chatTemplate' | 'templateFor'>,
) => Promise<GgufSpeech>;

/** What reading a file back has found: how far its numbers lie from the source's. */
export interface GgufCheck {
  readonly file: string;
  readonly tensors: number;
  /** Of types that are made of blocks: root mean square of the differences over that of the numbers. Others hold the nearest numbers. */
  readonly relativeErrors: Readonly<Partial<Record<GgmlTypeName, number>>>;
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
  readonly dtype: DType | GgufFileType;
  /** What was decided on the way, a sentence each. */
  readonly notes: readonly string[];
  /** What the check has found, where it was asked for. */
  readonly checked?: readonly GgufCheck[];
}
