/**
 * The entries of a zip archive, as the directory describes them: where their bytes lie, or their content inflated to exactly
 * the declared size, with checksums compared.
 */
import { constants, crc32, inflateRawSync } from 'node:zlib';

import { DataError } from '../base/errors.js';
import type { ByteSource } from './source.js';
import { brief } from './strict-json.js';
import { brokenZip, ENCRYPTED, readZipDirectory, viewOf, type ZipEntry } from './zip-directory.js';

const LOCAL = 0x04034b50;
const CHUNK = 4 * 2 ** 20;

/** A zip archive whose directory has been read and checked. */
export class ZipArchive {
  readonly #source: ByteSource;
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /** False when every CRC field is 0: `torch.serialization.set_crc32_options(False)` writes such files. */
  readonly hasChecksums: boolean;

  private constructor(source: ByteSource, entries: Map<string, ZipEntry>) {
    this.#source = source;
    this.entries = entries;
    this.hasChecksums = [...entries.values()].some((entry) => entry.crc !== 0);
  }

  /** Reads the directory at the end of `source`. */
  static async open(source: ByteSource): Promise<ZipArchive> {
    return new ZipArchive(source, await readZipDirectory(source));
  }

  /** Where the bytes of a stored (not deflated) entry begin in the file, after its checksum has been compared. */
  async locate(
    entry: ZipEntry,
    { verify = true, signal }: { verify?: boolean; signal?: AbortSignal | undefined } = {},
  ): Promise<number> {
    const offset = await this.#dataOffset(entry);
    if (!this.hasChecksums || !verify) return offset;
    const buffer = new Uint8Array(Math.min(CHUNK, entry.packed));
    let crc = 0;
    for (let done = 0; done < entry.packed; done += CHUNK) {
      signal?.throwIfAborted();
      const length = Math.min(CHUNK, entry.packed - done);
      crc = crc32(await this.#source.read(offset + done, length, buffer), crc);
    }
    this.#compare(entry, crc);
    return offset;
  }

  /** The content of an entry of at most `limit` bytes, checksum compared. */
  async read(entry: ZipEntry, limit: number): Promise<Uint8Array> {
    if (entry.size > limit) {
      throw new DataError(
        `${this.#source.path}: ${brief(entry.name)} declares ${entry.size} bytes, over the limit of ${limit}.`,
        { code: 'E_ZIP_TOO_LARGE', hint: 'Check where the file comes from; it may be a zip bomb.' },
      );
    }
    const packed = await this.#source.read(await this.#dataOffset(entry), entry.packed);
    const content = entry.deflated ? this.#inflate(entry, packed) : packed;
    if (this.hasChecksums) this.#compare(entry, crc32(content));
    return content;
  }

  #inflate(entry: ZipEntry, packed: Uint8Array): Uint8Array {
    let content: Buffer;
    try {
      content = inflateRawSync(packed, {
        maxOutputLength: Math.max(1, entry.size),
        // One buffer that is never full: otherwise the pieces and their concatenation are held together.
        chunkSize: Math.max(constants.Z_MIN_CHUNK, entry.size + 1),
      });
    } catch (error) {
      throw brokenZip(this.#source, `${brief(entry.name)} does not inflate to its size`, error);
    }
    if (content.length !== entry.size) {
      throw brokenZip(
        this.#source,
        `${brief(entry.name)} declares ${entry.size} bytes and inflates to ${content.length}`,
      );
    }
    return new Uint8Array(content.buffer, content.byteOffset, content.length);
  }

  #compare(entry: ZipEntry, crc: number): void {
    if (crc === entry.crc) return;
    throw new DataError(
      `${this.#source.path}: the checksum of ${brief(entry.name)} does not match its content.`,
      {
        code: 'E_ZIP_CHECKSUM',
        hint: 'Download or copy the file again: some of its bytes have changed.',
      },
    );
  }

  /** Reads the entry's local header, which must tell the same as the directory. */
  async #dataOffset(entry: ZipEntry): Promise<number> {
    const view = viewOf(await this.#source.read(entry.start, 30));
    const nameLength = view.getUint16(26, true);
    const extraLength = view.getUint16(28, true);
    const offset = entry.start + 30 + nameLength + extraLength;
    const name = Buffer.from(await this.#source.read(entry.start + 30, nameLength));
    const agrees = (declared: number, size: number): boolean =>
      declared === size || declared === 0xffffffff || (entry.trailing && declared === 0);
    if (
      view.getUint32(0, true) !== LOCAL ||
      (view.getUint16(6, true) & ENCRYPTED) !== 0 ||
      !name.equals(Buffer.from(entry.name)) ||
      view.getUint16(8, true) !== (entry.deflated ? 8 : 0) ||
      !agrees(view.getUint32(18, true), entry.packed) ||
      !agrees(view.getUint32(22, true), entry.size) ||
      offset + entry.packed > entry.end
    ) {
      throw brokenZip(
        this.#source,
        `the local header of ${brief(entry.name)} contradicts the directory`,
      );
    }
    return offset;
  }
}
