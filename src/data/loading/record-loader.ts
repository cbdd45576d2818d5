/**
 * From the number of a record to a sample: read, encode, decode its images and fit them. The same in the main thread and in
 * workers; nothing here is random, and nothing depends on what was loaded before.
 */
import { DataError, PatinaError } from '../../base/errors.js';
import type { Recipe } from '../../config/schema/recipe.js';
import type { ChatFormat } from '../../text/chat-format.js';
import {
  IGNORED_LABEL,
  type ImageFacts,
  imageTokensOf,
  type InputFacts,
  type Sample,
} from '../../models/sample.js';
import { encodeRecord, expandImages, type EncodedSample, type EncodeOutcome } from '../encode.js';
import { ImageError } from '../image/rgb-image.js';
import type { FitMode } from '../image/fit.js';
import type { PictureBytes } from '../image/tile.js';
import type { Rgb } from '../image/normalise.js';
import { parseRecord } from '../records/parse-record.js';
import type { ChatRecord, ImageSource, RecordId, RecordProblem } from '../records/record.js';
import {
  describePlace,
  rejectedRecord,
  type RecordPlace,
  type RejectedRecord,
} from '../sources/place.js';
import { fileOf, type NumberedFile } from '../sources/open-table.js';
import { OpenTables } from '../sources/open-tables.js';
import type { RecordTable } from '../sources/record-table.js';
import type { EncodeWarning } from '../warnings.js';
import { imageTokens } from './image-tokens.js';
import { loadFormat } from './load-format.js';
import { loadImage } from './load-image.js';
import { measureRecord } from './measure.js';
import type { Budget } from './pack.js';
import { NUMBERS } from './record-shapes.js';

/** Everything that loading depends on; plain data, cloned into threads. */
export interface LoaderSpec {
  readonly files: readonly NumberedFile[];
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  readonly text: Recipe['text'];
  readonly image: Recipe['image'] & { readonly mode: FitMode };
  /** Colour of the padding. @default CLIP's */
  readonly background?: Rgb | undefined;
  readonly input: InputFacts;
  /** Most tokens that the model was made for. @default no limit */
  readonly context?: number | undefined;
  /** What a micro-batch holds at most: a record of more tokens is overlong, one of more pictures bad. @default no limit */
  readonly budget?: Budget | undefined;
}

/** A sample that knows where it comes from. */
export interface LoadedSample extends Sample {
  readonly inputIds: Int32Array;
  readonly labels: Int32Array;
  readonly images: readonly PictureBytes[];
  readonly place: RecordPlace;
  readonly id: RecordId;
  /** Positions with a loss. */
  readonly supervised: number;
  readonly imageTokens: number;
  /** Tokens that `maxLength` cut off. */
  readonly truncated: number;
  /** Left out where there are none. */
  readonly warnings?: readonly EncodeWarning[];
}

export type LoadOutcome =
  | { readonly status: 'sample'; readonly sample: LoadedSample }
  | { readonly status: 'rejected'; readonly rejected: RejectedRecord };

export class RecordLoader {
  readonly #spec: LoaderSpec;
  readonly #format: ChatFormat;
  readonly #tables = new OpenTables();

  private constructor(spec: LoaderSpec, format: ChatFormat) {
    this.#spec = spec;
    this.#format = format;
  }

  /** @throws UsageError and DataError for a tokenizer or template that cannot be used */
  static async open(spec: LoaderSpec): Promise<RecordLoader> {
    const { tokenizer, text, input } = spec;
    return new RecordLoader(spec, await loadFormat(tokenizer, text.template, input.image !== null));
  }

  /**
   * Loads a record; what is wrong with it is an outcome.
   *
   * @throws DataError for what is wrong with the run: E_OVERLONG where such records stop it, E_VOCABULARY,
   *   E_DATA_READ, E_DATA_CHANGED; PatinaError E_RECORD_FAILED for what nobody expects
   */
  async load(record: number): Promise<LoadOutcome> {
    const { file, index, table } = await this.#find(record);
    try {
      return await this.#load(table, index, file.images);
    } catch (cause) {
      if (cause instanceof PatinaError) throw cause;
      throw new PatinaError(
        `${describePlace(table.place(index))}: loading failed: ${String(cause)}.`,
        {
          code: 'E_RECORD_FAILED',
          hint: 'Leave the record out, and report it: this is a fault of Patina.',
          cause,
        },
      );
    }
  }

  /** Estimated tokens of records `from` to `to` (exclusive), negative without images; all of one file. */
  async measure(from: number, to: number): Promise<Int32Array> {
    const { file, index, table } = await this.#find(from);
    const lengths = new Int32Array(to - from);
    let i = 0;
    for await (const json of table.readTexts(index, to - file.first)) {
      lengths[i++] = measureRecord(json, this.#mostTokens());
    }
    return lengths;
  }

  /**
   * Shapes of records `from` to `to` (exclusive), all of one file, with their estimates: see `RecordShapes`. Of pictures that a model takes in
   * tiles the head is read: how many tokens one takes follows from its size.
   *
   * @throws those of `load`
   */
  async count(from: number, to: number): Promise<Int32Array> {
    const { file, index, table } = await this.#find(from);
    const counts = new Int32Array(NUMBERS * (to - from));
    for (let i = index; i < to - file.first; i++) {
      const read = await table.read(i);
      const { image } = this.#spec.input;
      const at = NUMBERS * (i - index);
      counts[at + 3] = measureRecord(read.ok ? read.json : undefined, this.#mostTokens());
      const parsed = read.ok ? parseRecord(read.json) : read;
      if (!parsed.ok || !('record' in parsed)) continue;
      const { images: pictures } = parsed.record;
      if (pictures.length > (image ? (this.#spec.budget?.images ?? Infinity) : 0)) continue;
      const tokens = image && (await this.#tokensOf(pictures, image, file.images));
      const outcome = this.#encode(parsed.record, table.place(i), tokens);
      if (outcome.status !== 'sample') continue;
      const { length, labels, images } = outcome.sample;
      counts.set([length, learned(labels), images.length], at);
    }
    return counts;
  }

  close(): Promise<void> {
    return this.#tables.close();
  }

  async #load(table: RecordTable, index: number, images: string): Promise<LoadOutcome> {
    const place = table.place(index);
    const bad = (id: RecordId, problem: RecordProblem): LoadOutcome => ({
      status: 'rejected',
      rejected: rejectedRecord(place, id, problem),
    });
    const read = await table.read(index);
    if (!read.ok) return bad(read.id, read.problem);
    const parsed = parseRecord(read.json);
    if (!parsed.ok) return bad(parsed.id, parsed.problem);
    const { id, images: pictures } = parsed.record;
    if (pictures.length > 0 && !this.#spec.input.image) return bad(id, NO_IMAGES);
    const { images: most = Infinity } = this.#spec.budget ?? {};
    if (pictures.length > most) return bad(id, tooManyImages(pictures.length, most));
    try {
      const tiled = await this.#tiled(pictures, images);
      const { image } = this.#spec.input;
      const count = pictures.length;
      const tokens =
        image && pictures.map((source) => imageTokensOf(tiled.get(source), count, image));
      const outcome = this.#encode(parsed.record, place, tokens);
      if (outcome.status === 'bad') return bad(id, outcome.problem);
      if (outcome.status === 'overlong') {
        const problem = overlong(outcome.length, maxLengthOf(this.#spec));
        return { status: 'rejected', rejected: rejectedRecord(place, id, problem, 'overlong') };
      }
      return { status: 'sample', sample: await this.#sample(outcome.sample, images, place, tiled) };
    } catch (error) {
      if (error instanceof ImageError) return bad(id, error);
      throw error;
    }
  }

  async #find(record: number): Promise<{ file: NumberedFile; index: number; table: RecordTable }> {
    const file = fileOf(this.#spec.files, record);
    if (!file) throw new RangeError(`There is no record ${record}.`);
    return { file, index: record - file.first, table: await this.#tables.of(file) };
  }

  /** The pictures of a model that takes tiles, which are read first: how many tokens one takes follows from its size. */
  async #tiled(pictures: readonly ImageSource[], folder: string): Promise<TiledPictures> {
    const tiled = new Map<ImageSource, PictureBytes>();
    if (this.#spec.input.image?.tiles === undefined) return tiled;
    for (const source of pictures) {
      tiled.set(source, await this.#pixels(source, folder, pictures.length));
    }
    return tiled;
  }

  /** Of each of so many images of a record whose sizes are not known. */
  #mostTokens(): (images: number) => number {
    const { image } = this.#spec.input;
    return image === null ? () => 0 : (images) => imageTokensOf(undefined, images, image);
  }

  #tokensOf(sources: readonly ImageSource[], image: ImageFacts, folder: string): Promise<number[]> {
    return imageTokens(sources, { image, reading: this.#spec.image.reading, folder });
  }

  /** @param tokens of each image; `null` for a model that takes none */
  #encode(record: ChatRecord, place: RecordPlace, tokens: readonly number[] | null): EncodeOutcome {
    const { text, context } = this.#spec;
    try {
      return encodeRecord(record, {
        ...text,
        maxLength: maxLengthOf(this.#spec),
        context,
        format: this.#format,
        imageTokens: tokens ?? undefined,
      });
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      const { code, hint, message } = error;
      throw new DataError(`${describePlace(place)}: ${message}`, { code, hint, cause: error });
    }
  }

  async #sample(
    encoded: EncodedSample,
    folder: string,
    place: RecordPlace,
    tiled: TiledPictures,
  ): Promise<LoadedSample> {
    const { image } = this.#spec.input;
    const { imageTokens } = encoded;
    const { inputIds, labels } = image
      ? expandImages(encoded, { imageTokens, imageTokenId: image.tokenId })
      : encoded;
    this.#checkVocabulary(inputIds, place);
    const images: PictureBytes[] = [];
    for (const source of encoded.images) {
      images.push(tiled.get(source) ?? (await this.#pixels(source, folder, encoded.images.length)));
    }
    return {
      inputIds,
      labels,
      images,
      place,
      id: encoded.id,
      supervised: learned(labels),
      imageTokens: imageTokens.reduce((sum, each) => sum + each, 0),
      truncated: encoded.truncated,
      ...(encoded.warnings.length > 0 && { warnings: encoded.warnings }),
    };
  }

  #pixels(source: ImageSource, folder: string, pictures: number): Promise<PictureBytes> {
    const { image, input, background } = this.#spec;
    return loadImage(source, {
      ...image,
      size: input.image!.size,
      tiles: input.image!.tiles,
      folder,
      pictures,
      ...(background && { background }),
    });
  }

  /** Not the record's fault: the tokenizer is another model's. */
  #checkVocabulary(inputIds: Int32Array, place: RecordPlace): void {
    const { vocabSize, image } = this.#spec.input;
    const stranger = inputIds.find((id) => id >= vocabSize && id !== image?.tokenId);
    if (stranger === undefined) return;
    throw new DataError(
      `${describePlace(place)}: token ${stranger} is outside of the model's vocabulary of ${vocabSize}.`,
      { code: 'E_VOCABULARY', hint: 'Use the tokenizer that belongs to the model.' },
    );
  }
}

type TiledPictures = ReadonlyMap<ImageSource, PictureBytes>;

/** The first token is predicted by none. */
function learned(labels: Int32Array): number {
  return labels.subarray(1).reduce((sum, id) => sum + (id === IGNORED_LABEL ? 0 : 1), 0);
}

/** Most tokens of a record: what the text may have, and what a micro-batch holds. */
export function maxLengthOf({ text, budget }: Pick<LoaderSpec, 'text' | 'budget'>): number {
  return Math.min(text.maxLength, budget?.tokens ?? Infinity);
}

export function tooManyImages(images: number, most: number): RecordProblem {
  return {
    code: 'E_BATCH_IMAGES',
    message: `the record has ${images} images, and a micro-batch holds ${most} (\`batchImages\`)`,
    hint: 'Raise `batchImages`, or leave the record out.',
  };
}

export const NO_IMAGES: RecordProblem = {
  code: 'E_IMAGE_UNWANTED',
  message: 'the record has images, and the model takes none',
  hint: 'Leave the record out, or start from a model with a vision tower.',
};

export function overlong(length: number, maxLength: number): RecordProblem {
  return {
    code: 'E_OVERLONG',
    message: `the record has ${length} tokens, more than the limit of ${maxLength}`,
    hint: 'Raise `text.maxLength` (and `batchTokens`, if that is less), or set `text.overlong` to "truncate".',
  };
}
