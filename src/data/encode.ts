/**
 * From a record to what a model trains on: ids, labels, and the images to put in. Pure and without tensors, so
 * that any thread can do it.
 *
 * Length counts every token that the model will see: an image counts as the tokens that it becomes
 * (`imageTokens`). XTuner counts it as one, whence its limits: `max_length` 1472 with 576 tokens for an image is at
 * most 1472 - 1 + 576 = 2047 tokens in the model. `maxLength: 2047, imageTokens: 576` cuts a record with one image
 * where XTuner cuts it; one without image may then be 2047 tokens long, which XTuner cuts at 1472, and each further
 * image takes 576 from the text, which XTuner lets grow past 2048. `maxLength: 1472, imageTokens: 1` is XTuner's way
 * of counting for every record.
 */
import { DataError, UsageError } from '../base/errors.js';
import type { ChatFormat } from '../text/chat-format.js';
import { IGNORED_LABEL, IMAGE_ID } from '../models/sample.js';
import type { SpecialTokens } from '../text/span-encoder.js';
import { textMessage, type Message } from '../text/message.js';
import { pairTurns } from '../text/turns.js';
import { parseRecord } from './records/parse-record.js';
import {
  type ChatRecord,
  type ImageSource,
  type RecordId,
  type RecordProblem,
  shownId,
} from './records/record.js';
import type { EncodeWarning } from './warnings.js';

export interface EncodeOptions {
  format: ChatFormat;
  /** Most tokens of a sample, images counted by `imageTokens`. @default no limit */
  maxLength?: number | undefined;
  /** Tokens that an image becomes, or of each image of the record. @default 1 */
  imageTokens?: number | readonly number[] | undefined;
  /** What becomes of a longer record: cut at the right end, left out, or an error. @default 'truncate' */
  overlong?: 'truncate' | 'skip' | 'stop' | undefined;
  /** Most tokens that the model was made for. @default no limit */
  context?: number | undefined;
  /** Whether text that spells a special token stays text. @default 'text' */
  specialTokens?: SpecialTokens | undefined;
  /** System text of a record that brings none. @default none */
  system?: string | undefined;
}

export interface EncodedSample {
  readonly id: RecordId;
  /** Images in the order of their -200. */
  readonly images: readonly ImageSource[];
  /** Tokens that each becomes. */
  readonly imageTokens: readonly number[];
  /** One -200 (`IMAGE_ID`) for each image. */
  readonly inputIds: Int32Array;
  /** Beside `inputIds`: the id where it is learned, else -100 (`IGNORED_LABEL`). */
  readonly labels: Int32Array;
  /** Tokens with images counted by `imageTokens`. */
  readonly length: number;
  /** Tokens that are learned. */
  readonly supervised: number;
  /** Tokens that were cut off. */
  readonly truncated: number;
  readonly warnings: readonly EncodeWarning[];
}

export type EncodeOutcome =
  | { readonly status: 'sample'; readonly sample: EncodedSample }
  /** Longer than `maxLength`, with `overlong: 'skip'`. */
  | { readonly status: 'overlong'; readonly id: RecordId; readonly length: number }
  | { readonly status: 'bad'; readonly id: RecordId; readonly problem: RecordProblem };

/** Reads and encodes a record as it stands in a data file; see `parseRecord` and `encodeRecord`. */
export function encodeJson(json: unknown, options: EncodeOptions): EncodeOutcome {
  const parsed = parseRecord(json);
  if (!parsed.ok) return { status: 'bad', id: parsed.id, problem: parsed.problem };
  return encodeRecord(parsed.record, options);
}

/**
 * Encodes a record. It is bad, with the code of
 *
 * - E_TEMPLATE_...: the chat template does not take it;
 * - E_IMAGE_CUT: an image lies beyond `maxLength`: images are never cut;
 * - E_NO_SUPERVISION: nothing is learned; E_ANSWER_CUT: nothing that is left after cutting.
 *
 * Throws E_OVERLONG (DataError) with `overlong: 'stop'`, and UsageError on impossible options.
 */
export function encodeRecord(record: ChatRecord, options: EncodeOptions): EncodeOutcome {
  const { format, overlong = 'truncate', specialTokens = 'text', context = Infinity } = options;
  const { maxLength, imageTokens } = limits(options);
  const { id } = record;
  const messages = withSystem(record.messages, options.system);
  const bad = (problem: RecordProblem): EncodeOutcome => ({ status: 'bad', id, problem });

  let encoding;
  try {
    encoding = format.training(messages, { specialTokens });
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    return bad({ code: error.code, message: error.message, hint: error.hint });
  }
  const { ids, labels } = encoding;
  const tokens = encoding.images.map((image) => imageTokens(image));
  const whole = ids.length + tokens.reduce((sum, each) => sum + each - 1, 0);
  let end = ids.length;
  let length = whole;
  if (whole > maxLength) {
    if (overlong === 'skip') return { status: 'overlong', id, length: whole };
    if (overlong === 'stop') throw overlongError(id, whole, maxLength);
    // From the right: text may go, an image may not.
    while (length > maxLength && ids[end - 1] !== IMAGE_ID) {
      end--;
      length--;
    }
    if (length > maxLength) {
      return bad({
        code: 'E_IMAGE_CUT',
        message: `an image ends at token ${length} of ${whole}, beyond the limit of ${maxLength}`,
        hint: 'Raise `maxLength` (and `batchTokens`, if that is less), shorten the text before the image, or leave the record out.',
      });
    }
  }
  // Not `Int32Array.from`, which goes through an iterator.
  const kept = new Int32Array(labels.slice(0, end));
  let supervised = 0;
  for (const label of kept) if (label !== IGNORED_LABEL) supervised++;
  if (supervised === 0) {
    const nothing = 'no token of the record is learned';
    return bad(
      end < ids.length && labels.some((label) => label !== IGNORED_LABEL)
        ? {
            code: 'E_ANSWER_CUT',
            message: `${nothing} once it is cut at ${maxLength} tokens`,
            hint: 'Raise `maxLength`, or leave the record out.',
          }
        : {
            code: 'E_NO_SUPERVISION',
            message: nothing,
            hint: 'Give the record an answer.',
          },
    );
  }
  const isLearned = (at: number): boolean => (labels[at] ?? IGNORED_LABEL) !== IGNORED_LABEL;
  const sample: EncodedSample = {
    id,
    images: encoding.images.map((image) => record.images[image]!),
    imageTokens: tokens,
    inputIds: new Int32Array(ids.slice(0, end)),
    labels: kept,
    length,
    supervised,
    truncated: whole - length,
    warnings: [
      ...warningsOf({ ...record, messages }, format, specialTokens),
      ...(end < ids.length ? (['truncated'] as const) : []),
      ...(isLearned(end - 1) && isLearned(end) ? (['end-cut'] as const) : []),
      ...(length > context ? (['beyond-context'] as const) : []),
    ],
  };
  return { status: 'sample', sample };
}

/**
 * Ids and labels as the model takes them: each -200 as `imageTokens` times the image token's id, not learned; one number for all, or
 * that of each.
 */
export function expandImages(
  { inputIds, labels }: Pick<EncodedSample, 'inputIds' | 'labels'>,
  { imageTokens, imageTokenId }: ImageExpansion,
): { inputIds: Int32Array; labels: Int32Array } {
  const tokensOf = tokensEach(imageTokens);
  let images = 0;
  let length = inputIds.length;
  for (const id of inputIds) if (id === IMAGE_ID) length += tokensOf(images++) - 1;
  images = 0;
  const expanded = { inputIds: new Int32Array(length), labels: new Int32Array(length) };
  let at = 0;
  for (let i = 0; i < inputIds.length; i++) {
    const id = inputIds[i]!;
    if (id === IMAGE_ID) {
      const end = at + tokensOf(images++);
      expanded.inputIds.fill(imageTokenId, at, end);
      expanded.labels.fill(labels[i]!, at, end);
      at = end;
    } else {
      expanded.inputIds[at] = id;
      expanded.labels[at++] = labels[i]!;
    }
  }
  return expanded;
}

/** What stands for images once they are expanded. */
export interface ImageExpansion {
  imageTokens: number | readonly number[];
  imageTokenId: number;
}

function tokensEach(tokens: number | readonly number[]): (image: number) => number {
  return typeof tokens === 'number' ? () => tokens : (image) => tokens[image]!;
}

function withSystem(messages: readonly Message[], system: string | undefined): readonly Message[] {
  if (system === undefined || messages[0]?.role === 'system') return messages;
  return [textMessage('system', system), ...messages];
}

function limits({ maxLength = Infinity, imageTokens = 1 }: EncodeOptions): {
  maxLength: number;
  imageTokens: (image: number) => number;
} {
  const whole = (value: number): boolean => Number.isSafeInteger(value) && value > 0;
  if (![imageTokens].flat().every(whole) || !(maxLength === Infinity || whole(maxLength))) {
    throw new UsageError(
      `maxLength ${maxLength} with imageTokens ${String(imageTokens)} is no limit.`,
      {
        code: 'E_MAX_LENGTH',
        hint: 'Give whole numbers from 1.',
      },
    );
  }
  return { maxLength, imageTokens: tokensEach(imageTokens) };
}

function overlongError(id: RecordId, length: number, maxLength: number): DataError {
  const name = id === null ? 'A record' : `Record ${shownId(id)}`;
  return new DataError(`${name} has ${length} tokens, more than the limit of ${maxLength}.`, {
    code: 'E_OVERLONG',
    hint: "Raise `maxLength` (and `batchTokens`, if that is less), or set `overlong` to 'truncate' or 'skip'.",
  });
}

function warningsOf(
  { messages, warnings = [] }: ChatRecord,
  { tokenizer, missingTokens }: ChatFormat,
  specialTokens: SpecialTokens,
): EncodeWarning[] {
  const spelled =
    specialTokens === 'text' &&
    messages.some(({ content }) =>
      content.some((part) => part.type === 'text' && tokenizer.spellsToken(part.text)),
    );
  return [
    ...pairTurns(messages).faults,
    ...warnings,
    ...(spelled ? (['special-tokens-as-text'] as const) : []),
    ...(missingTokens.length > 0 ? (['format-tokens-missing'] as const) : []),
  ];
}
