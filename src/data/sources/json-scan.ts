/**
 * Finds the records in a stream of JSON without parsing them: the elements of an array, or the lines of JSON Lines.
 * What lies between their borders is not looked at; whether it is JSON shows when it is read.
 *
 * Only ASCII bytes matter, and in UTF-8 they are never part of another character.
 */

/** A record's bytes, and the line on which they begin, from 1. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly line: number;
}

export interface Scanner {
  /** @throws SyntaxError with `line` in its message, where the file is no array of records */
  push(chunk: Buffer): void;
  /** @throws SyntaxError where the file ends too early */
  end(): void;
}

const [TAB, LF, CR, SPACE] = [0x09, 0x0a, 0x0d, 0x20];
const [QUOTE, COMMA, BACKSLASH] = [0x22, 0x2c, 0x5c];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** The elements of the one array that a file holds. */
export class ArrayScanner implements Scanner {
  #position = 0;
  #line = 1;
  /** Open brackets: 0 outside of the array, 1 between its elements. */
  #depth = 0;
  #closed = false;
  #element: { start: number; line: number } | undefined;
  #elements = 0;
  #string = false;
  #escape = false;

  /** @param start where in the file the first chunk lies */
  constructor(
    private readonly found: (span: Span) => void,
    start = 0,
  ) {
    this.#position = start;
  }

  push(chunk: Buffer): void {
    // Searched for once and kept until passed: a chunk without backslashes is not searched again for each string.
    let quote = -1;
    let backslash = -1;
    const next = (byte: number, from: number): number => {
      const at = chunk.indexOf(byte, from);
      return at < 0 ? chunk.length : at;
    };
    for (let i = 0; i < chunk.length;) {
      if (!this.#string) {
        this.#structure(chunk[i]!, this.#position + i);
        i++;
      } else if (this.#escape) {
        this.#escape = false;
        i++;
      } else {
        if (quote < i) quote = next(QUOTE, i);
        if (backslash < i) backslash = next(BACKSLASH, i);
        const stop = Math.min(quote, backslash);
        if (stop < chunk.length) {
          this.#string = backslash < quote;
          this.#escape = this.#string;
        }
        i = stop + 1;
      }
    }
    this.#position += chunk.length;
  }

  end(): void {
    if (this.#closed) return;
    const where = this.#element ? `inside of record ${this.#elements + 1}` : 'before its closing ]';
    throw new SyntaxError(`the file ends ${where}: a part of it is missing`);
  }

  #structure(byte: number, at: number): void {
    switch (byte) {
      case LF:
        this.#line++;
        return;
      case TAB:
      case CR:
      case SPACE:
        return;
    }
    if (this.#closed) throw this.#unexpected('after the array');
    switch (byte) {
      case COMMA:
        if (this.#depth === 1) this.#close(at);
        return;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        if (this.#depth === 1) this.#finish(byte, at);
        else this.#depth--;
        return;
    }
    if (this.#depth === 1) this.#element ??= { start: at, line: this.#line };
    if (byte === OPEN_LIST || byte === OPEN_OBJECT) this.#depth++;
    this.#string = byte === QUOTE;
  }

  #close(end: number): void {
    if (!this.#element) throw this.#unexpected('where a record should begin');
    this.found({ ...this.#element, end });
    this.#element = undefined;
    this.#elements++;
  }

  #finish(byte: number, end: number): void {
    if (byte === CLOSE_OBJECT) throw this.#unexpected('that closes nothing');
    if (this.#element || this.#elements > 0) this.#close(end);
    this.#depth = 0;
    this.#closed = true;
  }

  #unexpected(what: string): SyntaxError {
    return new SyntaxError(`line ${this.#line} has something ${what}`);
  }
}

/** Lines with anything on them. */
export class LineScanner implements Scanner {
  #position: number;
  #line = 1;
  #start: number;
  #blank = true;

  /** @param start where in the file the first chunk lies */
  constructor(
    private readonly found: (span: Span) => void,
    start = 0,
  ) {
    this.#position = start;
    this.#start = start;
  }

  push(chunk: Buffer): void {
    for (let from = 0; from < chunk.length;) {
      const newline = chunk.indexOf(LF, from);
      const end = newline < 0 ? chunk.length : newline;
      if (this.#blank) this.#blank = isBlank(chunk, from, end);
      if (newline >= 0) this.#finish(this.#position + end);
      from = end + 1;
    }
    this.#position += chunk.length;
  }

  end(): void {
    this.#finish(this.#position);
  }

  #finish(end: number): void {
    if (!this.#blank) this.found({ start: this.#start, end, line: this.#line });
    this.#start = end + 1;
    this.#line++;
    this.#blank = true;
  }
}

function isBlank(chunk: Buffer, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const byte = chunk[i]!;
    if (byte !== SPACE && byte !== CR && byte !== TAB) return false;
  }
  return true;
}
