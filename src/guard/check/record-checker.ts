/**
 * Everything that is decided about one record by itself: read, written as tokens, its pictures decoded. The same in any thread;
 * what belongs to several records (duplicates, counts) is put together from these reports.
 */
import { createHash } from 'node:crypto';

import { PatinaError } from '../../base/errors.js';
import type { Recipe } from '../../config/index.js';
import {
  encodeRecord,
  type EncodedSample,
  type EncodeOptions,
  type ChatRecord,
  type ImageSource,
  loadFormat,
  parseRecord,
  type RecordId,
  type RecordProblem,
  WARNINGS,
} from '../../data/index.js';
import { imageTokens } from '../../data/loading/image-tokens.js';
import { measureRecord } from '../../data/loading/measure.js';
import type { Budget } from '../../data/loading/pack.js';
import {
  maxLengthOf,
  NO_IMAGES,
  overlong,
  tooManyImages,
} from '../../data/loading/record-loader.js';
import { fileOf, type NumberedFile } from '../../data/sources/open-table.js';
import { OpenTables } from '../../data/sources/open-tables.js';
import type { RecordTable } from '../../data/sources/record-table.js';
import { IMAGE_ID, type InputFacts } from '../../models/sample.js';
import { pairTurns } from '../../text/turns.js';
import type { ChatFormat, Message } from '../../text/index.js';
import type { Kind } from './finding.js';
import { markersOf } from './format-check.js';
import { oddKind, ownKind, refusedKind } from './kinds.js';
import { nameOf, PictureChecker } from './picture-checker.js';
import { isEmptyText, repetitionIn } from './texts.js';

/** What records are written for; without it they are read and their pictures decoded, and that is all. */
export interface ModelSpec {
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  readonly text: Recipe['text'];
  /** `null` where the model is not known beyond its tokenizer. */
  readonly input: InputFacts | null;
  readonly context?: number | undefined;
  readonly budget?: Budget | undefined;
}

/** Everything that checking depends on; plain data, cloned into threads, but for memory that they share. */
export interface CheckSpec {
  readonly files: readonly NumberedFile[];
  readonly reading: Recipe['image']['reading'];
  readonly model: ModelSpec | null;
  /** By token: one more than the first record that holds it; 0 for none. Filled by all threads. */
  readonly firstUse: Int32Array | null;
}

/** What is wrong with a record. */
export interface Mark {
  readonly record: number;
  readonly id: RecordId;
  readonly kind: Kind;
  readonly message: string;
}

/** What is known of neighbouring records. */
export interface RecordsReport {
  readonly from: number;
  readonly marks: readonly Mark[];
  /** Tokens of each before anything is cut; estimated from its text where there is no tokenizer; 0 for what cannot be read. */
  readonly lengths: Int32Array;
  /** Tokens that are learned, of all of them. */
  readonly supervised: number;
  readonly pictures: number;
  readonly ids: readonly RecordId[];
  /** What each says and shows, in 64 bits: two numbers a record, 0 for what cannot be read. */
  readonly contents: Uint32Array;
}

interface RecordReport {
  readonly id: RecordId;
  readonly marks: readonly Mark[];
  readonly length: number;
  readonly supervised: number;
  readonly pictures: number;
  readonly content: readonly [low: number, high: number];
}

export class RecordChecker {
  readonly #spec: CheckSpec;
  readonly #format: ChatFormat | null;
  readonly #markers: readonly string[];
  readonly #tables = new OpenTables();
  readonly #pictures: PictureChecker;

  private constructor(spec: CheckSpec, format: ChatFormat | null) {
    this.#spec = spec;
    this.#format = format;
    this.#pictures = new PictureChecker(spec.reading);
    this.#markers = format === null ? [] : markersOf(format).tokens;
  }

  /** @throws UsageError and DataError for a tokenizer or template that cannot be used */
  static async open(spec: CheckSpec): Promise<RecordChecker> {
    const { model } = spec;
    if (model === null) return new RecordChecker(spec, null);
    const { tokenizer, text, input } = model;
    const hasProcessor = input === null ? undefined : input.image !== null;
    return new RecordChecker(spec, await loadFormat(tokenizer, text.template, hasProcessor));
  }

  /**
   * Checks records `from` to `to` (exclusive), all of one file.
   *
   * @throws DataError E_DATA_READ, E_DATA_CHANGED when the file fails, not the record
   */
  async check(from: number, to: number): Promise<RecordsReport> {
    const file = fileOf(this.#spec.files, from)!;
    const table = await this.#tables.of(file);
    const marks: Mark[] = [];
    const lengths = new Int32Array(to - from);
    const contents = new Uint32Array(2 * (to - from));
    const ids: RecordId[] = [];
    let [supervised, pictures] = [0, 0];
    for (let record = from; record < to; record++) {
      ids.push(null);
      try {
        const one = await this.#one(table, record, file);
        marks.push(...one.marks);
        ids[record - from] = one.id;
        lengths[record - from] = one.length;
        contents.set(one.content, 2 * (record - from));
        supervised += one.supervised;
        pictures += one.pictures;
      } catch (error) {
        if (error instanceof PatinaError) throw error;
        const kind = refusedKind(
          'E_RECORD_FAILED',
          'Leave the record out, and report it: this is a fault of Patina.',
        );
        marks.push({ record, id: null, kind, message: `checking it failed: ${String(error)}` });
      }
    }
    return { from, marks, lengths, supervised, pictures, ids, contents };
  }

  async #one(table: RecordTable, record: number, file: NumberedFile): Promise<RecordReport> {
    const marks: Mark[] = [];
    const nothing = { marks, length: 0, supervised: 0, pictures: 0, content: [0, 0] } as const;
    const refused = (id: RecordId, { code, message, hint }: RecordProblem): RecordReport => {
      marks.push({ record, id, kind: refusedKind(code, hint), message });
      return { ...nothing, id };
    };
    const read = await table.read(record - file.first);
    if (!read.ok) return refused(read.id, read.problem);
    const parsed = parseRecord(read.json);
    if (!parsed.ok) return refused(parsed.id, parsed.problem);
    const { id, images, messages } = parsed.record;
    const mark = (kind: Kind, message: string): unknown =>
      marks.push({ record, id, kind, message });
    const written = await this.#write(parsed.record, record, { folder: file.images, mark });
    this.#checkTexts(parsed.record, mark);
    const digests = await this.#look(images, file.images, mark);
    const content = digestOf(messages, digests);
    return {
      ...{ id, marks },
      length: written?.length ?? Math.abs(measureRecord(read.json, () => 0)),
      supervised: written?.supervised ?? 0,
      pictures: images.length,
      content: [content.readUInt32LE(0), content.readUInt32LE(4)],
    };
  }

  close(): Promise<void> {
    return this.#tables.close();
  }

  /** The record as tokens; `undefined` where there is no tokenizer. */
  async #write(
    record: ChatRecord,
    number: number,
    { folder, mark }: { folder: string; mark: Marker },
  ): Promise<Written | undefined> {
    const { model, reading } = this.#spec;
    if (model === null || this.#format === null) return undefined;
    const { text, input, context, budget } = model;
    const refuse = (
      { code, message, hint }: RecordProblem,
      severity?: Kind['severity'],
    ): unknown => {
      const kind = refusedKind(code, hint);
      return mark(severity === undefined ? kind : { ...kind, severity }, message);
    };
    const count = record.images.length;
    if (count > 0 && input?.image === null) refuse(NO_IMAGES);
    else if (count > (budget?.images ?? Infinity)) refuse(tooManyImages(count, budget!.images!));
    const maxLength = maxLengthOf(model);
    const image = input?.image ?? undefined;
    const options: EncodeOptions = {
      ...{ ...text, maxLength, context, format: this.#format },
      overlong: text.overlong === 'truncate' ? 'truncate' : 'skip',
      imageTokens: image && (await imageTokens(record.images, { image, reading, folder })),
    };
    const outcome = encodeRecord(record, options);
    if (outcome.status === 'overlong') {
      const { length } = outcome;
      refuse(overlong(length, maxLength), text.overlong === 'skip' ? 'warning' : 'error');
      return { length, supervised: 0 };
    }
    if (outcome.status === 'bad') {
      const { problem } = outcome;
      const whole = this.#whole(record, options);
      if (problem.code === 'E_ANSWER_CUT') mark(ownKind('answer-cut'), problem.message);
      else if (problem.code !== 'E_NO_SUPERVISION') refuse(problem);
      else if (answersOf(record.messages).some((answer) => !isEmptyText(answer))) {
        mark(ownKind('answer-masked'), 'no token of its answers is learned');
      } else refuse(problem);
      return { length: whole?.length ?? 0, supervised: 0 };
    }
    const { sample } = outcome;
    const { length, supervised, truncated } = sample;
    const all = truncated > 0 ? this.#whole(record, options)!.supervised : supervised;
    if (supervised < all) {
      const message = `${all - supervised} of the ${all} tokens of its answers are cut off at ${maxLength}`;
      mark(ownKind('answer-cut-short'), message);
    }
    this.#tellOdd(record, sample, mark);
    this.#checkIds(sample.inputIds, number, mark);
    return { length: length + truncated, supervised };
  }

  /** The record without a limit; `undefined` where nothing of it is learned even so. */
  #whole(record: ChatRecord, options: EncodeOptions): EncodedSample | undefined {
    const outcome = encodeRecord(record, { ...options, maxLength: undefined });
    return outcome.status === 'sample' ? outcome.sample : undefined;
  }

  #tellOdd(record: ChatRecord, { warnings }: EncodedSample, mark: Marker): void {
    for (const warning of warnings) {
      const spelled = warning === 'special-tokens-as-text' ? this.#markerIn(record) : undefined;
      if (spelled !== undefined) {
        const message = `a message spells ${spelled}, a marker of the chat template`;
        mark(ownKind('markers-in-text'), message);
        continue;
      }
      const kind = oddKind(warning);
      if (kind !== undefined) mark(kind, WARNINGS[warning]);
    }
  }

  #markerIn({ messages }: ChatRecord): string | undefined {
    const text = messages.map(textOf).join('\n');
    return this.#markers.find((marker) => text.includes(marker));
  }

  #checkIds(ids: Int32Array, record: number, mark: Marker): void {
    const { model, firstUse } = this.#spec;
    const input = model?.input ?? null;
    if (input === null) return;
    const { vocabSize, image } = input;
    let stranger: number | undefined;
    for (const id of ids) {
      if (id === IMAGE_ID || id === image?.tokenId) continue;
      if (id >= vocabSize) stranger ??= id;
      else if (firstUse !== null) noteFirst(firstUse, id, record + 1);
    }
    if (stranger === undefined) return;
    const token = this.#format?.tokenizer.tokenOf(stranger);
    const name = token === undefined ? '' : ` (${JSON.stringify(token)})`;
    const message = `token ${stranger}${name} is outside of the model's vocabulary of ${vocabSize}`;
    mark(ownKind('id-outside'), message);
  }

  #checkTexts({ messages }: ChatRecord, mark: Marker): void {
    const answers = answersOf(messages);
    const empty = answers.filter(isEmptyText).length;
    if (empty > 0) {
      const which =
        answers.length === 1 ? 'its answer is' : `${empty} of its ${answers.length} answers are`;
      mark(ownKind('empty-answer'), `${which} empty`);
    }
    for (const message of messages) {
      const found = repetitionIn(textOf(message));
      if (found === undefined) continue;
      const unit = found.unit.length > 60 ? `${found.unit.slice(0, 60)}...` : found.unit;
      const where = { system: 'system text', user: 'question', assistant: 'answer' }[message.role];
      const said = `its ${where} says ${JSON.stringify(unit)} ${found.times} times in a row`;
      mark(ownKind('repeated-text'), said);
      return;
    }
  }

  /** Decodes the pictures, and tells them apart by digests. */
  async #look(sources: readonly ImageSource[], folder: string, mark: Marker): Promise<string[]> {
    const digests: string[] = [];
    for (const source of sources) {
      const { digest, problem, isConstant } = await this.#pictures.look(source, folder);
      digests.push(digest);
      if (problem !== null) {
        mark(refusedKind(problem.code, problem.hint), problem.message.replace(/\.$/, ''));
      } else if (isConstant) {
        mark(ownKind('constant-image'), `${nameOf(source)} is of one colour all over`);
      }
    }
    return digests;
  }
}

type Marker = (kind: Kind, message: string) => unknown;

interface Written {
  readonly length: number;
  readonly supervised: number;
}

function digestOf(messages: readonly Message[], pictures: readonly string[]): Buffer {
  const said = messages.map(({ role, content }) => [
    role,
    ...content.map((part) => (part.type === 'text' ? part.text.trim() : part.image)),
  ]);
  return createHash('sha1')
    .update(JSON.stringify([said, pictures]))
    .digest();
}

function textOf({ content }: Message): string {
  return content.map((part) => (part.type === 'text' ? part.text : '')).join('');
}

/** The texts of the answers that are learned. */
function answersOf(messages: readonly Message[]): string[] {
  return pairTurns(messages).turns.map(({ answer }) =>
    textOf({ role: 'assistant', content: answer }),
  );
}

/** Keeps the smallest number that any thread has found. */
function noteFirst(firstUse: Int32Array, id: number, number: number): void {
  for (;;) {
    const before = firstUse[id]!;
    if (before !== 0 && before <= number) return;
    if (Atomics.compareExchange(firstUse, id, before, number) === before) return;
  }
}
