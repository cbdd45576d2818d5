/**
 * JSON Lines that survive a crash: one object per line, appended by one write, so that only the last line can be torn.
 *
 * A loss that is NaN stays visible, as a string (see `jsonLine`); `number` reads it back.
 */
import {
  closeSync,
  createReadStream,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';

import { DataError } from './errors.js';
import { jsonLine, parseJson } from './json-text.js';
import { writeError } from './system-error.js';

/** A line of a file: its value and its number, counted from 1. */
export interface JsonLine {
  value: unknown;
  line: number;
}

/** Appends objects to a file; what is written stays written when the process dies. */
export class JsonLinesWriter {
  readonly path: string;
  #descriptor: number | undefined;

  /**
   * Opens `path` for appending and cuts off a last line that a crash has torn; one that lacks its end alone is given it.
   *
   * @throws EnvironmentError E_DISK_FULL, E_UNWRITABLE, here and in `write` and `sync`.
   */
  constructor(path: string) {
    this.path = path;
    this.#guarded('open the log', () => {
      this.#descriptor = openSync(path, 'a+');
      endLastLine(this.#descriptor);
    });
  }

  /** Appends one line. */
  write(value: object): void {
    const line = Buffer.from(jsonLine(value));
    this.#guarded('append to the log', (descriptor) => {
      try {
        const written = writeSync(descriptor, line);
        // A disk that fills up takes a part of the line; the rest raises the error.
        if (written < line.length) writeSync(descriptor, line, written);
      } catch (error) {
        cutTornLine(descriptor);
        throw error;
      }
    });
  }

  /** Waits until everything written is on the disk. */
  sync(): void {
    this.#guarded('sync the log', fsyncSync);
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #guarded(action: string, work: (descriptor: number) => void): void {
    try {
      work(this.#descriptor ?? -1);
    } catch (error) {
      throw writeError(error, this.path, action);
    }
  }
}

export interface ReadJsonLinesOptions {
  /** What becomes of a last line that is torn: a log's may be, that of a file which somebody gives may not. @default 'left out' */
  torn?: 'left out' | 'refused';
  /** Is told of each line before the last that is no JSON, and it is passed over. @default it is refused */
  onBroken?: ((line: number) => void) | undefined;
}

/**
 * The lines of a file, oldest first. Empty lines are passed over; a line in the middle that is no JSON is a fault, unless
 * somebody is told of it.
 *
 * @throws DataError E_JSON_LINE with file and line.
 */
export async function* readJsonLines(
  path: string,
  { torn = 'left out', onBroken }: ReadJsonLinesOptions = {},
): AsyncGenerator<JsonLine> {
  let line = 0;
  let rest = '';
  for await (const piece of createReadStream(path, 'utf8') as AsyncIterable<string>) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    for (const text of lines) {
      line++;
      if (text.trim() === '') continue;
      const value = onBroken === undefined ? parse(text, path, line) : parseOrUndefined(text);
      if (value === undefined) onBroken?.(line);
      else yield { value, line };
    }
  }
  // Without its newline a line may be torn; if it is whole all the same, it counts.
  if (rest.trim() === '') return;
  const last = torn === 'refused' ? parse(rest, path, line + 1) : parseOrUndefined(rest);
  if (last !== undefined) yield { value: last, line: line + 1 };
}

/** A number as the writer left it, or NaN for anything else. */
export function number(value: unknown): number {
  return typeof value === 'number' || (typeof value === 'string' && NON_FINITE.test(value))
    ? Number(value)
    : NaN;
}

const NON_FINITE = /^(NaN|-?Infinity)$/;

function parse(text: string, path: string, line: number): unknown {
  try {
    return parseJson(text);
  } catch (cause) {
    throw new DataError(`${path}:${line} is not JSON: ${text.slice(0, 80)}`, {
      code: 'E_JSON_LINE',
      hint: 'Mend or remove that line; every line of the file must be one JSON object.',
      cause,
    });
  }
}

function parseOrUndefined(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return undefined;
  }
}

/** What readers count stays. */
function endLastLine(descriptor: number): void {
  const end = endOfLastLine(descriptor);
  const rest = Buffer.alloc(fstatSync(descriptor).size - end);
  if (rest.length === 0) return;
  readSync(descriptor, rest, 0, rest.length, end);
  if (parseOrUndefined(rest.toString()) === undefined) ftruncateSync(descriptor, end);
  else writeSync(descriptor, '\n');
}

function cutTornLine(descriptor: number): void {
  const end = endOfLastLine(descriptor);
  if (end < fstatSync(descriptor).size) ftruncateSync(descriptor, end);
}

/** Where the last whole line ends, looking backwards from the end of the file. */
function endOfLastLine(descriptor: number): number {
  const buffer = Buffer.alloc(1 << 16);
  let end = fstatSync(descriptor).size;
  while (end > 0) {
    const start = Math.max(0, end - buffer.length);
    const read = readSync(descriptor, buffer, 0, end - start, start);
    const newline = buffer.subarray(0, read).lastIndexOf(0x0a);
    if (newline >= 0) return start + newline + 1;
    end = start;
  }
  return 0;
}
