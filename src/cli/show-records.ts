/** Records as a model sees them: ids and labels for programs, the rendered prompt for people. */
import { UsageError } from '../base/errors.js';
import { jsonLine } from '../base/json-text.js';
import {
  encodeJson,
  type EncodedSample,
  type EncodeOptions,
  type EncodeOutcome,
  encodeRecord,
  expandImages,
} from '../data/encode.js';
import { imageTokens, type ImageTokensOptions } from '../data/loading/image-tokens.js';
import { parseRecord } from '../data/records/parse-record.js';
import { unreadFields } from '../data/records/fields.js';
import { type RecordId, type RecordProblem, shownId } from '../data/records/record.js';
import { shortText } from '../base/short-text.js';
import { plural } from '../base/format.js';
import { openCatalog } from '../data/sources/catalog.js';
import { describePlace, type RecordPlace } from '../data/sources/place.js';
import { openTable } from '../data/sources/open-table.js';
import type { ReadRecord } from '../data/sources/record-table.js';
import { type DataWarning, formatWarnings, WARNINGS } from '../data/warnings.js';
import { IMAGE_ID } from '../models/sample.js';
import type { Session } from './session.js';
import { type Marks, renderSample } from './render-sample.js';

export interface ShowRecordsOptions {
  /** File, folder or hub name. */
  data: string;
  /** Only this record, from 0. */
  index?: number | undefined;
  encode: EncodeOptions;
  /** What the model takes, where it takes tiles: their number follows from the heads of the image files. */
  tiled?: Omit<ImageTokensOptions, 'folder'> | undefined;
  json: boolean;
  /** What an image's -200 is written as in JSON. */
  expand?: { imageTokenId: number } | undefined;
  marks: Marks;
  session: Session;
}

/** Shows records in the file's order; those that are bad set the exit code to 4. Decodes no image. */
export async function showRecords(options: ShowRecordsOptions): Promise<void> {
  const { session, json, encode, tiled } = options;
  const write = (text: string): unknown => session.stdout.write(text);
  const tally = new Tally(formatWarnings(encode.format));
  for await (const { place, read, folder } of readRecords(options)) {
    const outcome = read.ok
      ? await encoded(read.json, folder, { encode, tiled })
      : { status: 'bad' as const, id: read.id, problem: read.problem };
    if (outcome.status === 'overlong') continue; // never: records are cut
    const { id: known } = outcome.status === 'sample' ? outcome.sample : outcome;
    const id = (read.ok ? read.idText : undefined) ?? JSON.stringify(known);
    if (outcome.status === 'bad') {
      tally.bad++;
      write(
        json
          ? badLine(id, outcome.problem)
          : `${heading(place, outcome.id)}\n${fault(outcome.problem)}\n`,
      );
    } else {
      const { sample } = outcome;
      tally.add(sample);
      if (read.ok) tally.addUnread(unreadFields(read.json));
      write(
        json
          ? sampleLine(id, sample, options.expand)
          : `${heading(place, sample.id)}\n${facts(sample)}\n${renderSample(sample, encode, options.marks)}\n\n`,
      );
    }
  }
  if (tally.bad > 0) session.exitCode = 4;
  session.stderr.write(`${tally.summary()}\n`);
}

async function encoded(
  json: unknown,
  folder: string,
  { encode, tiled }: Pick<ShowRecordsOptions, 'encode' | 'tiled'>,
): Promise<EncodeOutcome> {
  const parsed = parseRecord(json);
  if (tiled === undefined || !parsed.ok) return encodeJson(json, encode);
  const tokens = await imageTokens(parsed.record.images, { ...tiled, folder });
  return encodeRecord(parsed.record, { ...encode, imageTokens: tokens });
}

interface ShownRecord {
  /** What paths of images start from. */
  readonly folder: string;
  readonly place: RecordPlace;
  readonly read: ReadRecord;
}

async function* readRecords({
  data,
  index,
}: Pick<ShowRecordsOptions, 'data' | 'index'>): AsyncGenerator<ShownRecord, void, undefined> {
  const [source] = await openCatalog([{ path: data, weight: 1 }]);
  const { files, count } = source!;
  if (index !== undefined && index >= count) {
    throw new UsageError(`${data} has ${count} records, and none has the index ${index}.`, {
      code: 'E_INDEX',
      hint: `Give an index from 0 to ${count - 1}.`,
    });
  }
  for (const { first, table: spec, images: folder } of files) {
    const [from, to] = index === undefined ? [0, spec.count] : [index - first, index - first + 1];
    if (from < 0 || to > spec.count) continue;
    const table = await openTable(spec);
    try {
      for (let record = from; record < to; record++) {
        yield { folder, place: table.place(record), read: await table.read(record) };
      }
    } finally {
      await table.close();
    }
  }
}

function badLine(id: string, { code, message, hint }: RecordProblem): string {
  return line(id, { error: { code, message, hint } });
}

function sampleLine(
  id: string,
  sample: EncodedSample,
  expand: ShowRecordsOptions['expand'],
): string {
  const { imageTokens } = sample;
  const { inputIds, labels } =
    expand === undefined ? sample : expandImages(sample, { imageTokens, ...expand });
  return line(id, { input_ids: Array.from(inputIds), labels: Array.from(labels) });
}

/** @param id JSON, to the letter */
function line(id: string, rest: object): string {
  return `{"id":${id},${jsonLine(rest).slice(1)}`;
}

function heading(place: RecordPlace, id: RecordId): string {
  return `--- ${describePlace(place)}${id === null ? '' : `, id ${shownId(id)}`}`;
}

function fault({ code, message, hint }: RecordProblem): string {
  return `bad: ${message} [${code}]\n  ${hint}\n`;
}

function facts({
  length,
  supervised,
  truncated,
  images,
  inputIds,
  warnings,
}: EncodedSample): string {
  const kept = inputIds.filter((id) => id === IMAGE_ID).length;
  const parts = [
    `${length} tokens`,
    `${supervised} supervised`,
    ...(images.length === 0 ? [] : [plural(kept, 'image')]),
    ...(truncated === 0 ? [] : [`${truncated} cut off`]),
  ];
  const paths = images.map((image, i) => {
    const path = typeof image === 'string' ? image : (image.path ?? 'in the record');
    return `\nimage ${i + 1}: ${shortText(path)}`;
  });
  const odd = warnings.map((warning) => `\nwarning: ${WARNINGS[warning]} [${warning}]`);
  return [parts.join(', '), ...paths, ...odd].join('');
}

/** Names of fields that are told. */
const MOST_NAMES = 12;

/** What has been shown, counted. */
class Tally {
  bad = 0;
  #fine = 0;
  #tokens = 0;
  #supervised = 0;
  #truncated = 0;
  readonly #warnings = new Map<DataWarning, number>();
  readonly #unread = new Map<string, number>();
  readonly #format: readonly DataWarning[];

  constructor(format: readonly DataWarning[]) {
    this.#format = format;
  }

  addUnread(fields: readonly string[]): void {
    for (const field of fields) this.#unread.set(field, (this.#unread.get(field) ?? 0) + 1);
  }

  add({ length, supervised, truncated, warnings }: EncodedSample): void {
    this.#fine++;
    this.#tokens += length;
    this.#supervised += supervised;
    if (truncated > 0) this.#truncated++;
    for (const warning of warnings) {
      this.#warnings.set(warning, (this.#warnings.get(warning) ?? 0) + 1);
    }
  }

  summary(): string {
    const records = this.#fine + this.bad;
    const counts = [
      plural(records, 'record'),
      `${this.bad} bad`,
      `${this.#truncated} cut`,
      `${this.#tokens} tokens, ${this.#supervised} of them supervised`,
    ];
    const odd = [...this.#warnings].map(
      ([warning, count]) => `\nwarning: ${WARNINGS[warning]}: ${count} [${warning}]`,
    );
    const ofFormat = this.#format
      .filter((warning) => !this.#warnings.has(warning))
      .map((warning) => `\nwarning: ${WARNINGS[warning]} [${warning}]`);
    const names = [...this.#unread].map(([field, count]) => `${shortText(field, 60)} (${count})`);
    const more = names.length > MOST_NAMES ? `, and ${names.length - MOST_NAMES} more` : '';
    const unread =
      names.length === 0 ? [] : [`\nnot read: ${names.slice(0, MOST_NAMES).join(', ')}${more}`];
    return [counts.join(', '), ...odd, ...ofFormat, ...unread].join('');
  }
}
