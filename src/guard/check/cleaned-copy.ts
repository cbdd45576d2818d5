/**
 * A copy of the data without the records that are better left out, and a list of those: written record by record as they are
 * checked, and there as a whole or not at all.
 *
 * Records stay as they are written, byte for byte, but for what would lead nowhere from another folder (relative paths of
 * pictures, which become absolute) and for Parquet, whose records become JSON Lines with their pictures within.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';

import { EnvironmentError, UsageError } from '../../base/errors.js';
import { jsonLine } from '../../base/json-text.js';
import { writing } from '../../base/system-error.js';
import { requireWritable } from '../../base/writable.js';
import { DataFile } from '../../data/sources/data-file.js';
import { fileOf, type NumberedFile, openTable } from '../../data/sources/open-table.js';
import type { RecordTable } from '../../data/sources/record-table.js';
import { isObject, type JsonObject } from '../../text/json.js';
import { placeOf } from './data-check.js';
import type { Mark } from './record-checker.js';

export interface CleanedFacts {
  /** The cleaned files, in the order of those that they were made of. */
  readonly files: readonly string[];
  readonly kept: number;
  readonly leftOut: number;
  /** Of records that were left out, a line of JSON each. */
  readonly list: string;
}

const WRITING = 'write the cleaned copy';

export class CleanedCopy {
  readonly #out: string;
  readonly #suffix = `.${randomBytes(4).toString('hex')}.tmp`;
  #files: readonly NumberedFile[] = [];
  #list: LineFile | undefined;
  #open: OpenSource | undefined;
  readonly #written: string[] = [];
  #kept = 0;
  #leftOut = 0;

  private constructor(out: string) {
    this.#out = out;
  }

  /**
   * @param out a file that ends in .json or .jsonl for data of one file, else a folder
   * @throws EnvironmentError E_EXISTS where something is there already, E_UNWRITABLE, E_DISK_FULL
   */
  static async at(out: string): Promise<CleanedCopy> {
    const path = resolve(out);
    if (existsSync(path)) {
      throw new EnvironmentError(`${path} exists already.`, {
        code: 'E_EXISTS',
        hint: 'Name another place for --fix, or remove it first.',
      });
    }
    await requireWritable(path, WRITING, 'folder');
    return new CleanedCopy(path);
  }

  /** Before the first record. @throws UsageError E_USAGE for several files and a name of one; EnvironmentError of the disk */
  async begin(files: readonly NumberedFile[]): Promise<void> {
    this.#files = files;
    if (this.#isFile && files.length > 1) {
      throw new UsageError(
        `The data are ${files.length} files, and --fix names one: ${this.#out}.`,
        {
          code: 'E_USAGE',
          hint: 'Name a folder.',
        },
      );
    }
    const folder = this.#isFile ? dirname(this.#out) : this.#out;
    const list = this.#isFile ? `${this.#out}.left-out.ndjson` : join(folder, 'left-out.ndjson');
    await writing(folder, WRITING, () => mkdir(folder, { recursive: true }));
    this.#list = await LineFile.create(list, this.#suffix);
  }

  /** A record, in the order of the files. */
  async add(record: number, marks: readonly Mark[]): Promise<void> {
    const why = marks.filter(({ kind }) => kind.leave);
    if (why.length === 0) {
      const source = await this.#sourceOf(record);
      await source.to.write(await source.line(record));
      this.#kept++;
      return;
    }
    this.#leftOut++;
    const { file, line, record: number } = placeOf(this.#files, record);
    const reasons = why.map(({ kind, message }) => ({
      ...{ cause: kind.cause, code: kind.code, message },
    }));
    const id = marks.find((mark) => mark.id !== null)?.id ?? null;
    await this.#list!.write(jsonLine({ source: file, line, record: number, id, reasons }));
  }

  /** Gives the files their names. */
  async finish(): Promise<CleanedFacts> {
    await this.#closeSource();
    const list = await this.#list!.finish();
    return { files: this.#written, kept: this.#kept, leftOut: this.#leftOut, list };
  }

  /** Leaves nothing half written. */
  async abandon(): Promise<void> {
    await this.#open?.close().catch(() => undefined);
    await this.#open?.to.abandon();
    await this.#list?.abandon();
  }

  get #isFile(): boolean {
    return /\.jsonl?$/i.test(this.#out);
  }

  async #sourceOf(record: number): Promise<OpenSource> {
    const file = fileOf(this.#files, record)!;
    if (this.#open?.file === file) return this.#open;
    await this.#closeSource();
    const target = this.#isFile ? this.#out : this.#nameFor(file);
    const moved = resolve(file.images) !== dirname(target);
    const to = await LineFile.create(target, this.#suffix);
    this.#open = await OpenSource.open(file, to, { moved });
    return this.#open;
  }

  #nameFor({ table: { path } }: NumberedFile): string {
    const name = basename(path).replace(/\.(parquet|jsonl?)$/i, '');
    const free = (target: string): boolean => !this.#written.includes(target);
    for (let n = 1; ; n++) {
      const target = join(this.#out, `${name}${n === 1 ? '' : `-${n}`}.jsonl`);
      if (free(target)) return target;
    }
  }

  async #closeSource(): Promise<void> {
    if (this.#open === undefined) return;
    await this.#open.close();
    this.#written.push(await this.#open.to.finish());
    this.#open = undefined;
  }
}

/** A file of records, and where they go. */
class OpenSource {
  private constructor(
    readonly file: NumberedFile,
    readonly to: LineFile,
    private readonly moved: boolean,
    private readonly table: RecordTable,
    private readonly bytes: DataFile | undefined,
  ) {}

  static async open(
    file: NumberedFile,
    to: LineFile,
    { moved }: { moved: boolean },
  ): Promise<OpenSource> {
    const bytes = file.table.kind === 'json' ? await DataFile.reopen(file.table) : undefined;
    return new OpenSource(file, to, moved, await openTable(file.table), bytes);
  }

  /** A record as a line. */
  async line(record: number): Promise<string> {
    const { table: spec, first, images } = this.file;
    const index = record - first;
    if (spec.kind === 'json' && this.bytes !== undefined) {
      const [start, end] = spec.spans.subarray(2 * index, 2 * index + 2) as unknown as [
        number,
        number,
      ];
      const text = (await this.bytes.read(start, end - start)).toString('utf8');
      // Line ends stand between values alone: within a text they are escaped.
      const line = `${text.replace(/\r?\n\s*/g, ' ').trim()}\n`;
      if (!this.moved) return line;
      const json = JSON.parse(text) as JsonObject;
      const led = withPictures(json, images);
      if (led === json) return line;
      const read = await this.table.read(index);
      return lineOf(led, read.ok ? read.idText : undefined);
    }
    const read = await this.table.read(index);
    if (!read.ok) return ''; // never: it was read before
    return lineOf(withPictures(read.json as JsonObject, images), read.idText);
  }

  async close(): Promise<void> {
    await this.bytes?.close();
    await this.table.close();
  }
}

function lineOf(json: JsonObject, idText: string | undefined): string {
  const others = idText === undefined ? json : { ...json, id: undefined };
  const text = JSON.stringify(others, (_key, value: unknown) =>
    typeof value === 'bigint' ? Number(value) : value,
  );
  return idText === undefined ? `${text}\n` : `{"id":${idText},${text.slice(1)}\n`;
}

/** The record with pictures that are found from any folder; itself where they are already. */
function withPictures(json: JsonObject, folder: string): JsonObject {
  let changed = false;
  const lead = (value: unknown): unknown => {
    if (value instanceof Uint8Array) {
      changed = true;
      return `data:image;base64,${Buffer.from(value).toString('base64')}`;
    }
    if (typeof value === 'string') {
      if (value === '' || isAbsolute(value) || /^[a-z]{2,}:/i.test(value)) return value;
      changed = true;
      return resolve(folder, value);
    }
    if (Array.isArray(value)) return value.map(lead);
    if (!isObject(value)) return value;
    if (value['bytes'] instanceof Uint8Array) return lead(value['bytes']);
    const own = PICTURE_FIELDS.filter((name) => name in value);
    return { ...value, ...Object.fromEntries(own.map((name) => [name, lead(value[name])])) };
  };
  const parts = (message: unknown): unknown => {
    const content = isObject(message) ? message['content'] : undefined;
    if (!Array.isArray(content)) return message;
    const led = content.map((part: unknown) =>
      isObject(part) && part['type'] !== 'text' ? lead(part) : part,
    );
    return { ...(message as JsonObject), content: led };
  };
  const led = { ...json };
  for (const name of ['image', 'images']) if (name in json) led[name] = lead(json[name]);
  for (const name of ['messages', 'conversations']) {
    const list = json[name];
    if (Array.isArray(list)) led[name] = list.map(parts);
  }
  return changed ? led : json;
}

const PICTURE_FIELDS = ['image', 'image_url', 'url', 'path'];

/** Lines that become a file when all are written. */
class LineFile {
  #waiting: string[] = [];
  #size = 0;

  private constructor(
    private readonly path: string,
    private readonly aside: string,
    private readonly handle: FileHandle,
  ) {}

  static async create(path: string, suffix: string): Promise<LineFile> {
    const aside = path + suffix;
    return writing(path, WRITING, async () => new LineFile(path, aside, await open(aside, 'wx')));
  }

  async write(line: string): Promise<void> {
    this.#waiting.push(line);
    this.#size += line.length;
    if (this.#size >= 2 ** 20) await this.#flush();
  }

  async finish(): Promise<string> {
    await this.#flush();
    await writing(this.path, WRITING, async () => {
      await this.handle.sync();
      await this.handle.close();
      await rename(this.aside, this.path);
    });
    return this.path;
  }

  async abandon(): Promise<void> {
    await this.handle.close().catch(() => undefined);
    await rm(this.aside, { force: true });
  }

  async #flush(): Promise<void> {
    const text = this.#waiting.join('');
    this.#waiting = [];
    this.#size = 0;
    await writing(this.path, WRITING, () => this.handle.appendFile(text));
  }
}
