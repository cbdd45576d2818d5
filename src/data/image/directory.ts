/**
 * The first image file directory of a TIFF file, which is also how EXIF is stored (TIFF 6.0, section 2; BigTIFF).
 *
 * Entries are located when the directory is read and their values only when asked for: a directory may name far more
 * than is needed, and hostile counts cost nothing.
 */

interface Entry {
  type: number;
  count: number;
  /** Where the values begin. */
  at: number;
}

/** Bytes per value by the type's number; a type that is not listed makes the entry unusable. */
const WIDTHS: Partial<Record<number, number>> = {
  ...{ 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4 },
  ...{ 16: 8, 17: 8, 18: 8 },
};

/** Reads are checked: one behind the end of the block throws a RangeError. */
export class Directory {
  readonly #block: Buffer;
  readonly #view: DataView;
  readonly #little: boolean;
  readonly #entries = new Map<number, Entry>();

  /** @param block begins with the byte order mark; offsets count from there */
  constructor(block: Buffer) {
    const mark = block.toString('latin1', 0, 4);
    this.#block = block;
    this.#view = new DataView(block.buffer, block.byteOffset, block.byteLength);
    this.#little = mark.startsWith('II');
    const big = mark === 'II+\0' || mark === 'MM\0+';
    if (!big && mark !== 'II*\0' && mark !== 'MM\0*') throw new RangeError('no TIFF header');

    const start = big ? this.#u64(8) : this.#u32(4);
    const entryCount = big ? this.#u64(start) : this.#u16(start);
    if (entryCount > 0xffff) throw new RangeError(`a directory of ${entryCount} entries`);
    const [first, size, field] = big ? [start + 8, 20, 8] : [start + 2, 12, 4];
    for (let i = 0; i < entryCount; i++) {
      const entry = first + i * size;
      // As Pillow: what stands before the end counts, though more was announced.
      if (entry + size > block.length) break;
      const type = this.#u16(entry + 2);
      const count = big ? this.#u64(entry + 4) : this.#u32(entry + 4);
      const value = entry + size - field;
      const fits = count * (WIDTHS[type] ?? 0) <= field;
      const at = fits ? value : big ? this.#u64(value) : this.#u32(value);
      const end = at + count * (WIDTHS[type] ?? 0);
      const tag = this.#u16(entry);
      // As Pillow: an entry without a value that can be read does not count, and the first of a tag does.
      if (end > at && end <= block.length && !this.#entries.has(tag)) {
        this.#entries.set(tag, { type, count, at });
      }
    }
  }

  get isLittleEndian(): boolean {
    return this.#little;
  }

  has(tag: number): boolean {
    return this.#entries.has(tag);
  }

  /** The values of a tag as numbers, at most 16; empty where the tag is absent or holds no numbers. */
  numbers(tag: number): number[] {
    const entry = this.#entries.get(tag);
    if (entry === undefined) return [];
    const { type, count, at } = entry;
    const width = WIDTHS[type];
    if (width === undefined) return [];
    const values: number[] = [];
    for (let i = 0; i < Math.min(count, 16); i++) {
      const value = this.#value(type, at + i * width);
      if (value === undefined) return [];
      values.push(value);
    }
    return values;
  }

  /** The first value of a tag if it is a number in a type made for numbers, not for bytes. */
  number(tag: number): number | undefined {
    const entry = this.#entries.get(tag);
    return entry !== undefined && entry.count > 0 && entry.type !== 1
      ? this.numbers(tag)[0]
      : undefined;
  }

  /** The bytes of a tag, whatever its type. */
  bytes(tag: number): Buffer | undefined {
    const entry = this.#entries.get(tag);
    if (entry === undefined) return undefined;
    return this.#block.subarray(entry.at, entry.at + entry.count * (WIDTHS[entry.type] ?? 0));
  }

  /** Writes a tag's first value in place, for a copy of the block that a decoder will read. */
  overwrite(tag: number, value: number): void {
    const entry = this.#entries.get(tag);
    if (entry?.type === 3) this.#view.setUint16(entry.at, value, this.#little);
    else if (entry?.type === 4) this.#view.setUint32(entry.at, value, this.#little);
  }

  #value(type: number, at: number): number | undefined {
    const view = this.#view;
    const little = this.#little;
    switch (type) {
      case 1:
        return view.getUint8(at);
      case 3:
        return view.getUint16(at, little);
      case 4:
      case 13:
        return view.getUint32(at, little);
      case 6:
        return view.getInt8(at);
      case 8:
        return view.getInt16(at, little);
      case 9:
        return view.getInt32(at, little);
      case 5:
        return view.getUint32(at, little) / view.getUint32(at + 4, little);
      case 10:
        return view.getInt32(at, little) / view.getInt32(at + 4, little);
      case 11:
        return view.getFloat32(at, little);
      case 12:
        return view.getFloat64(at, little);
      case 16:
      case 18:
        return this.#u64(at);
      default:
        return undefined;
    }
  }

  #u16(at: number): number {
    return this.#view.getUint16(at, this.#little);
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, this.#little);
  }

  #u64(at: number): number {
    return Number(this.#view.getBigUint64(at, this.#little));
  }
}
