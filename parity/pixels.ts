/**
 * Images decoded and resized against CLIP's processor with Pillow, byte for byte: any folder of the shape of
 * `test/fixtures/pixels`.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

import sharp from 'sharp';
import { z } from 'zod';

import { DataError } from '../src/base/errors.js';
import { decodeImage } from '../src/data/image/decode.js';
import type { FitMode } from '../src/data/image/fit.js';
import { fitImage } from '../src/data/image/fit.js';
import { imageSize } from '../src/data/image/header.js';
import { normaliseTable } from '../src/data/image/normalise.js';
import { readImageFile } from '../src/data/image/read-image.js';
import type { Reading, RgbImage } from '../src/data/image/rgb-image.js';
import { ImageError } from '../src/data/image/rgb-image.js';
import { parityArguments } from './arguments.js';
import { Report } from './report.js';

const triple = z.tuple([z.number(), z.number(), z.number()]);
const readingName = z.enum(['stored', 'turned', 'high_byte']);
const decodedShape = z.object({ width: z.number(), height: z.number(), sha256: z.string() });
const resultShape = z.object({
  size: z.number(),
  mode: z.enum(['pad', 'crop']),
  reading: readingName,
  sha256: z.string(),
  pixel_values_mean: z.number().optional(),
  png: z.string().optional(),
});
const expectedShape = z.object({
  mean: triple,
  std: triple,
  background: triple,
  normalise: z.object({ file: z.string() }),
  files: z.array(
    z.object({
      file: z.string(),
      decoded: z.partialRecord(readingName, decodedShape),
      results: z.array(resultShape),
    }),
  ),
  refused: z.array(z.object({ file: z.string() })),
});

type Expected = z.infer<typeof expectedShape>;
type ExpectedFile = Expected['files'][number];
type Result = z.infer<typeof resultShape>;

/** What was made of one result, for `--out`. */
interface Made {
  file: string;
  reading: Reading;
  size?: number;
  mode?: FitMode;
  sha256: string;
}

/** The means of pixel_values are stored with seven digits. */
const MEAN_TOLERANCE = 1e-6;

export async function run(argv: string[]): Promise<boolean> {
  const { path: folder, values } = parityArguments(argv, 'pixels', { out: { type: 'string' } });
  const expected = await readExpected(folder);
  const comparison = new Comparison(folder, expected, values.out);
  if (values.out !== undefined) await mkdir(values.out, { recursive: true });
  await comparison.table();
  for (const file of expected.files) {
    for (const reading of ['stored', 'turned'] as const) await comparison.file(file, reading);
  }
  for (const { file } of expected.refused) await comparison.refused(file);
  await comparison.writeMade();
  return comparison.report.print();
}

class Comparison {
  readonly report = new Report();
  readonly #folder: string;
  readonly #expected: Expected;
  readonly #out: string | undefined;
  readonly #table: Float32Array;
  readonly #made: (Made | { file: string; code: string })[] = [];

  constructor(folder: string, expected: Expected, out: string | undefined) {
    this.#folder = folder;
    this.#expected = expected;
    this.#out = out;
    this.#table = normaliseTable(expected.mean, expected.std);
  }

  /** The values that pixel_values takes, to the bit. */
  async table(): Promise<void> {
    const npy = await readFile(join(this.#folder, this.#expected.normalise.file));
    const stored = npy.subarray(npy.length - this.#table.byteLength);
    const made = Buffer.from(this.#table.buffer);
    let different = 0;
    for (let at = 0; at < made.length; at += 4) {
      if (stored.readUInt32LE(at) !== made.readUInt32LE(at)) different += 1;
    }
    this.report.add({ quantity: 'pixel_values per byte (values that differ)', error: different });
  }

  /** One file in one reading: a row that counts the pictures, decoded and resized, that are not equal to the byte. */
  async file(entry: ExpectedFile, reading: Reading): Promise<void> {
    const name = basename(entry.file);
    const quantity = `${name} ${reading} (pictures that differ)`;
    const source = referenceReading(entry, reading);
    const results = entry.results.filter((result) => result.reading === source);
    const notes: string[] = [];
    let meanError = 0;
    try {
      const bytes = await readImageFile(join(this.#folder, entry.file));
      const image = await decodeImage(bytes, { name, reading });
      notes.push(...this.#decodedFaults(entry.decoded[source], bytes, image, name, reading));
      for (const result of results) {
        const { size, mode } = result;
        const fitted = fitImage(image, { size, mode, background: this.#expected.background });
        const fault = await this.#resultFault(result, fitted);
        if (fault !== undefined) notes.push(fault);
        if (result.pixel_values_mean !== undefined) {
          const difference = Math.abs(this.#meanOf(fitted) - result.pixel_values_mean);
          meanError = Math.max(meanError, difference);
        }
        await this.#keep(name, reading, fitted, mode);
      }
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      this.report.add({ quantity, error: results.length + 1, note: error.message });
      return;
    }
    this.report.add({ quantity, error: notes.length, note: notes.join('; ') });
    this.report.add({
      quantity: `${name} ${reading} (means of pixel_values)`,
      error: meanError,
      tolerance: MEAN_TOLERANCE,
    });
  }

  /** A file that must not be read: the row counts 1 if it is, or if the error does not name it. */
  async refused(file: string): Promise<void> {
    const name = basename(file);
    const quantity = `${name} (must be refused)`;
    try {
      await decodeImage(await readImageFile(join(this.#folder, file)), { name });
      this.report.add({ quantity, error: 1, note: 'it was read' });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      this.#made.push({ file: name, code: error.code });
      const note = `${error.code}: ${error.message}`;
      this.report.add({ quantity, error: error.message.includes(name) ? 0 : 1, note });
    }
  }

  async writeMade(): Promise<void> {
    if (this.#out === undefined) return;
    await writeFile(join(this.#out, 'results.json'), JSON.stringify(this.#made, null, 1));
  }

  #decodedFaults(
    expected: z.infer<typeof decodedShape> | undefined,
    bytes: Buffer,
    image: RgbImage,
    name: string,
    reading: Reading,
  ): string[] {
    if (expected === undefined) return [];
    const found = `${image.width} x ${image.height}`;
    const wanted = `${expected.width} x ${expected.height}`;
    if (found !== wanted) return [`decoded to ${found} instead of ${wanted}`];
    const { width, height } = imageSize(bytes, { name, reading });
    if (`${width} x ${height}` !== wanted) return [`imageSize says ${width} x ${height}`];
    return sha256(image.data) === expected.sha256 ? [] : ['decoded differs'];
  }

  /** What is wrong with a result; told from the stored picture where there is one. */
  async #resultFault(result: Result, fitted: RgbImage): Promise<string | undefined> {
    if (sha256(fitted.data) === result.sha256) return undefined;
    const what = `${result.size} ${result.mode} differs`;
    const picture = join(this.#folder, result.png ?? '');
    if (result.png === undefined || !existsSync(picture)) return what;
    const stored = await sharp(picture).removeAlpha().raw().toBuffer();
    const distances = fitted.data.map((byte, i) => Math.abs(byte - (stored[i] ?? 0)));
    const count = distances.filter((distance) => distance > 0).length;
    const largest = distances.reduce((a, b) => Math.max(a, b), 0);
    return `${what} in ${count} bytes, by at most ${largest}`;
  }

  #meanOf({ data }: RgbImage): number {
    let sum = 0;
    for (let i = 0; i < data.length; i++) sum += this.#table[256 * (i % 3) + data[i]!]!;
    return sum / data.length;
  }

  async #keep(file: string, reading: Reading, { width, data }: RgbImage, mode: FitMode) {
    this.#made.push({ file, reading, size: width, mode, sha256: sha256(data) });
    if (this.#out === undefined) return;
    const suffix = reading === 'stored' ? '' : `.${reading}`;
    const name = `${file.replaceAll('.', '_')}.${width}.${mode}${suffix}.png`;
    const raw = { width, height: width, channels: 3 } as const;
    await sharp(data, { raw }).png().toFile(join(this.#out, name));
  }
}

/**
 * The reference's reading that one of Patina's must equal: `turned` is `high_byte` where there is one (16-bit grey), and
 * `stored` where the reference's two readings are the same.
 */
function referenceReading(entry: ExpectedFile, reading: Reading): z.infer<typeof readingName> {
  if (reading === 'stored') return 'stored';
  return (['turned', 'high_byte'] as const).find((name) => name in entry.decoded) ?? 'stored';
}

async function readExpected(folder: string): Promise<Expected> {
  const path = join(folder, 'expected.json');
  const fault = (reason: string, cause?: unknown) =>
    new DataError(`${path}: ${reason}`, {
      code: 'E_PARITY_FILES',
      hint: 'Name a folder of the shape of test/fixtures/pixels.',
      cause,
    });
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw fault('the file cannot be read as JSON.', cause);
  }
  const parsed = expectedShape.safeParse(content);
  if (!parsed.success) throw fault(z.prettifyError(parsed.error), parsed.error);
  return parsed.data;
}

function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}
