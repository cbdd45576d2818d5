/** The bytes of a pickle, read in order; a length that the file does not have is refused before anything is made. */

/** Why a stream of bytes is no pickle. */
export class StreamFault extends Error {}

/** A cursor over bytes. */
export class ByteStream {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  position: number;

  constructor(bytes: Uint8Array, position = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.position = position;
  }

  get remaining(): number {
    return this.#bytes.length - this.position;
  }

  /** The next `length` bytes, as a view of the file's. */
  take(length: number | bigint): Uint8Array {
    const start = this.#skip(length);
    return this.#bytes.subarray(start, this.position);
  }

  /** The bytes up to the next line feed, which is skipped. */
  line(): Uint8Array {
    const end = this.#bytes.indexOf(0x0a, this.position);
    if (end < 0) throw new StreamFault('a line does not end');
    const line = this.take(end - this.position);
    this.position++;
    return line;
  }

  u8(): number {
    return this.#view.getUint8(this.#skip(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#skip(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#skip(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#skip(8), true);
  }

  /** A float in big-endian order, the only value that pickles write so. */
  f64(): number {
    return this.#view.getFloat64(this.#skip(8), false);
  }

  /** Moves on, and returns where it was. */
  #skip(length: number | bigint): number {
    if (length < 0 || length > this.remaining) {
      throw new StreamFault(`${length} bytes are announced, ${this.remaining} are left`);
    }
    const start = this.position;
    this.position += Number(length);
    return start;
  }
}
