/**
 * Tab-separated values as pandas writes them: fields in quotation marks where they hold tabs, ends of lines or marks, which are doubled.
 *
 * Such a file may have more pictures, as base64, than memory: a field that is long stays in the file.
 */
import { createReadStream } from 'node:fs';

/** A field that is not held: where its text lies. */
export interface FarField {
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

/** Fields of more bytes stay in the file. */
const HELD = 1 << 14;
const [TAB, NEWLINE, RETURN, QUOTE] = [0x09, 0x0a, 0x0d, 0x22];

export interface TsvRow {
  readonly fields: readonly (string | FarField)[];
  /** Line where it begins, from 1. */
  readonly line: number;
  /** Whether the file ends before the line does, and whether that is within quotation marks. */
  readonly torn?: 'line' | 'quotation' | undefined;
}

export async function* readTsv(file: string): AsyncGenerator<TsvRow> {
  let fields: (string | FarField)[] = [];
  let bytes: number[] = [];
  /** Bytes of the field, and where its text begins in the file. */
  let [size, start] = [0, 0];
  let [quoted, inside, closing] = [false, false, false];
  let [line, rowLine, offset] = [1, 1, 0];

  const endField = (next: number): void => {
    if (size > HELD) fields.push({ file, offset: start, length: size });
    else {
      if (!quoted && bytes.at(-1) === RETURN) bytes.pop();
      fields.push(Buffer.from(bytes).toString('utf8'));
    }
    [bytes, size, start] = [[], 0, next];
    [quoted, inside, closing] = [false, false, false];
  };
  const take = (byte: number): void => {
    if (size < HELD) bytes.push(byte);
    size++;
  };

  for await (const piece of createReadStream(file) as AsyncIterable<Buffer>) {
    for (const byte of piece) {
      offset++;
      if (byte === NEWLINE) line++;
      if (inside) {
        if (closing && byte === QUOTE) {
          // A doubled mark is one.
          take(byte);
          closing = false;
          continue;
        }
        if (!closing) {
          if (byte === QUOTE) closing = true;
          else take(byte);
          continue;
        }
        if (byte === RETURN) continue;
        // As pandas reads what stands behind the closing mark.
        inside = false;
      }
      if (byte === TAB) endField(offset);
      else if (byte === NEWLINE) {
        endField(offset);
        if (fields.length > 1 || fields[0] !== '') yield { fields, line: rowLine };
        [fields, rowLine] = [[], line];
      } else if (byte === QUOTE && size === 0 && !quoted) {
        [quoted, inside, start] = [true, true, offset];
      } else take(byte);
    }
  }
  if (size > 0 || fields.length > 0) {
    const torn = inside && !closing ? 'quotation' : 'line';
    endField(offset);
    yield { fields, line: rowLine, torn };
  }
}
