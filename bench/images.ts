/**
 * Images decoded and fitted per second and core, beside transformers' processor on the same files in the same run:
 *
 *   node dist/bench/images.js [FOLDER] [--python PYTHON] [--rounds N]
 *
 * FOLDER holds image files; without it, 24 photographs of the size of COCO's are made from the fixtures. With --python (an
 * interpreter that has transformers and Pillow) the peer runs too, alternating with Patina round by round, so that a busy
 * machine slows both alike. A rate is images per second of processor time, all threads of the process counted; the best
 * round counts.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import sharp from 'sharp';

import { packageRoot } from '../src/base/native-path.js';
import { decodeImage } from '../src/data/image/decode.js';
import { fitImage } from '../src/data/image/fit.js';
import { readImageFile } from '../src/data/image/read-image.js';

const SIZE = 336;
const MODE = 'pad';

/** Images per second of processor time for one pass over the files. */
export async function imagesPerCore(files: string[], { fit = true } = {}): Promise<number> {
  const before = process.cpuUsage();
  for (const name of files) {
    const image = await decodeImage(await readImageFile(name), { name });
    if (fit) fitImage(image, { size: SIZE, mode: MODE });
  }
  const { user, system } = process.cpuUsage(before);
  return (files.length * 1e6) / (user + system);
}

/** transformers' processor in a Python of its own: one line in per round, one rate out. */
export class Peer {
  readonly #process;
  readonly #lines;

  constructor(python: string, files: string[]) {
    const script = join(packageRoot(), 'bench', 'images_peer.py');
    this.#process = spawn(python, [script, String(SIZE), MODE, ...files], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /** The name and version of what is measured. */
  name(): Promise<string> {
    return this.#line();
  }

  async imagesPerCore(): Promise<number> {
    this.#process.stdin.write('\n');
    return Number(await this.#line());
  }

  close(): void {
    this.#process.stdin.end();
  }

  async #line(): Promise<string> {
    const line = await this.#lines.next();
    if (line.done === true) throw new Error('The Python of the peer ended; see its message above.');
    return line.value;
  }
}

/** Photographs of 500 to 640 pixels with the grain of a camera, about 130 kB each. */
export async function makePhotographs(folder: string): Promise<string[]> {
  const sources = ['jpeg_420.jpg', 'jpeg_444.jpg', 'png_rgb8.png', 'jpeg_progressive.jpg'];
  const sizes = [
    [640, 480],
    [640, 427],
    [480, 640],
    [500, 375],
  ] as const;
  await mkdir(folder, { recursive: true });
  const files: string[] = [];
  let state = 1;
  const uniform = () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
  for (let i = 0; i < 24; i++) {
    const source = join(packageRoot(), 'test/fixtures/pixels/files', sources[i % 4]!);
    const [width, height] = sizes[(i + Math.floor(i / 4)) % 4]!;
    const pixels = await sharp(await readFile(source))
      .resize(width, height, { fit: 'cover' })
      .raw()
      .toBuffer();
    for (let at = 0; at < pixels.length; at += 3) {
      const grain = 16 * (uniform() + uniform() + uniform() - 1.5);
      for (let c = at; c < at + 3; c++) pixels[c] = Math.min(Math.max(pixels[c]! + grain, 0), 255);
    }
    const path = join(folder, `${i}.jpg`);
    const raw = { width, height, channels: 3 } as const;
    await writeFile(path, await sharp(pixels, { raw }).jpeg({ quality: 92 }).toBuffer());
    files.push(path);
  }
  return files;
}

async function main(argv: string[]): Promise<void> {
  const { positionals, values } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: { python: { type: 'string' }, rounds: { type: 'string', default: '8' } },
  });
  const scratch = await mkdtemp(join(tmpdir(), 'patina-bench-'));
  const given = positionals[0];
  const peers: Peer[] = [];
  try {
    const files =
      given === undefined
        ? await makePhotographs(scratch)
        : (await readdir(given)).map((name) => join(given, name));
    const runs: [string, () => Promise<number>][] = [
      ['Patina, decoded', () => imagesPerCore(files, { fit: false })],
      [`Patina, decoded and fitted to ${SIZE}`, () => imagesPerCore(files)],
    ];
    if (values.python !== undefined) {
      const peer = new Peer(values.python, files);
      peers.push(peer);
      runs.push([await peer.name(), () => peer.imagesPerCore()]);
    }
    const best = runs.map(() => 0);
    for (let round = 0; round <= Number(values.rounds); round++) {
      for (const [i, [, run]] of runs.entries()) {
        const rate = await run();
        if (round > 0) best[i] = Math.max(best[i]!, rate); // the first round warms up
      }
    }
    for (const [i, [name]] of runs.entries()) {
      console.log(`${best[i]!.toFixed(0).padStart(6)} images/s/core  ${name}`);
    }
    if (runs.length === 3)
      console.log(`${(best[1]! / best[2]!).toFixed(2).padStart(6)} times the peer`);
  } finally {
    for (const peer of peers) peer.close();
    await rm(scratch, { recursive: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  await main(process.argv.slice(2));
