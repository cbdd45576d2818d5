/**
 * The table that every parity runner prints: what was compared, how far it is off, how far it may be off.
 */

export interface Row {
  /** What is compared, for example `jpeg_420.jpg 336 pad`. */
  quantity: string;
  /** How far it is off; 0 means equal. */
  error: number;
  /** How far it may be off. @default 0 */
  tolerance?: number;
  /** What to say beside a row that is worth it, for example why a case could not be run. */
  note?: string;
}

const HEADINGS = { quantity: 'quantity', error: 'error', tolerance: 'tolerance' };

/**
 * Collects rows and prints them aligned. A row is within tolerance if `error <= tolerance`; a NaN never is.
 *
 * With `brief` the rows that hold are only counted, for runs of thousands of cases.
 */
export class Report {
  readonly #rows: Required<Row>[] = [];

  add({ quantity, error, tolerance = 0, note = '' }: Row): void {
    this.#rows.push({ quantity, error, tolerance, note });
  }

  /** Whether every row is within its tolerance; false where nothing was compared. */
  get ok(): boolean {
    return this.#rows.length > 0 && this.#rows.every(holds);
  }

  /** The table and a last line that counts, without colour. */
  toString({ brief = false } = {}): string {
    const rows = brief ? this.#rows.filter((row) => !holds(row)) : this.#rows;
    const cells = rows.map((row) => ({
      quantity: row.quantity,
      error: figure(row.error),
      tolerance: figure(row.tolerance),
      verdict: [holds(row) ? 'ok' : 'FAIL', row.note].filter((text) => text !== '').join('  '),
    }));
    const width = (key: keyof typeof HEADINGS) =>
      Math.max(HEADINGS[key].length, ...cells.map((cell) => cell[key].length));
    const [quantity, error, tolerance] = [width('quantity'), width('error'), width('tolerance')];
    const line = (row: typeof HEADINGS, verdict: string) =>
      `${row.quantity.padEnd(quantity)}  ${row.error.padStart(error)}  ${row.tolerance.padStart(tolerance)}  ${verdict}`;
    const failed = this.#rows.filter((row) => !holds(row)).length;
    const total = this.#rows.length;
    return [
      ...(cells.length === 0 ? [] : [line(HEADINGS, 'ok').trimEnd()]),
      ...cells.map((cell) => line(cell, cell.verdict)),
      total === 0
        ? 'Nothing was compared.'
        : failed === 0
          ? `All ${total} quantities are within tolerance.`
          : `${failed} of ${total} quantities are out of tolerance.`,
    ].join('\n');
  }

  /** Prints the table to stdout and says whether all of it holds; with `mayBeEmpty` an empty one does, too. */
  print({
    mayBeEmpty = false,
    ...options
  }: { brief?: boolean; mayBeEmpty?: boolean } = {}): boolean {
    console.log(this.toString(options));
    return this.ok || (mayBeEmpty && this.#rows.length === 0);
  }
}

function holds({ error, tolerance }: Row): boolean {
  return error <= (tolerance ?? 0);
}

function figure(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e9 ? String(value) : value.toExponential(2);
}
