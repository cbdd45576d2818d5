/** Numbers that are measured again and again, one growing column for each name; rows are in the order of their updates. */

/** An update of which a value was NaN or infinite, or that was left out. */
export interface Mark {
  readonly update: number;
  readonly kind: 'not-finite' | 'skipped';
}

export class Columns {
  #updates = new Float64Array(1024);
  readonly #columns = new Map<string, Float64Array>();
  #length = 0;
  /** In order; at most one of a kind for each update. */
  readonly marks: Mark[] = [];

  get length(): number {
    return this.#length;
  }

  get keys(): string[] {
    return [...this.#columns.keys()];
  }

  /** A view that holds until the next row is added. */
  get updates(): Float64Array {
    return this.#updates.subarray(0, this.#length);
  }

  /** NaN where nothing was measured, or what was measured is not a number: `marks` tells these apart. */
  column(key: string): Float64Array {
    return (this.#columns.get(key) ?? this.#fresh()).subarray(0, this.#length);
  }

  /** The last update, or undefined before the first. */
  get last(): number | undefined {
    return this.#length === 0 ? undefined : this.#updates[this.#length - 1];
  }

  /** Adds a row. Rows from its update on are of a past that a run which went back has left: they go. */
  add(update: number, values: Readonly<Record<string, number | null>>, skipped = false): void {
    while (this.#length > 0 && this.#updates[this.#length - 1]! >= update) this.#length--;
    while (this.marks.length > 0 && this.marks.at(-1)!.update >= update) this.marks.pop();
    if (this.#length === this.#updates.length) this.#grow();
    const row = this.#length++;
    this.#updates[row] = update;
    for (const column of this.#columns.values()) column[row] = NaN;
    for (const [key, value] of Object.entries(values)) {
      if (value === null) continue;
      let column = this.#columns.get(key);
      if (column === undefined) this.#columns.set(key, (column = this.#fresh()));
      column[row] = value;
    }
    if (Object.values(values).some((value) => value !== null && !Number.isFinite(value))) {
      this.marks.push({ update, kind: 'not-finite' });
    }
    if (skipped) this.marks.push({ update, kind: 'skipped' });
  }

  #fresh(): Float64Array {
    return new Float64Array(this.#updates.length).fill(NaN);
  }

  #grow(): void {
    const wider = (column: Float64Array): Float64Array<ArrayBuffer> => {
      const next = new Float64Array(2 * column.length).fill(NaN);
      next.set(column);
      return next;
    };
    this.#updates = wider(this.#updates);
    for (const [key, column] of this.#columns) this.#columns.set(key, wider(column));
  }
}
