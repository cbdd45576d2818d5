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
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { decodeImage } from '../src/data/image/decode.js';
import { fitImage } from '../src/data/image/fit.js';
import { readImageFile } from '../src/data/image/read-image.js';
import { drawPhotographs } from './photographs.js';
import { PythonPeer } from './python-peer.js';

const SIZE = 336;
const MODE = 'pad';

/** Images per second of processor time for one pass over the files. */
async function imagesPerCore(files: string[], { fit = true } = {}): Promise<number> {
  const before = process.cpuUsage();
  for (const name of files) {
    const image = await decodeImage(await readImageFile(name), { name });
    if (fit) fitImage(image, { size: SIZE, mode: MODE });
  }
  const { user, system } = process.cpuUsage(before);
  return (files.length * 1e6) / (user + system);
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { python: { type: 'string' }, rounds: { type: 'string', default: '8' } },
});
const scratch = await mkdtemp(join(tmpdir(), 'patina-bench-'));
const given = positionals[0];
const { python } = values;
let peer: PythonPeer | null = null;
try {
  const files =
    given === undefined
      ? await drawPhotographs(scratch)
      : (await readdir(given)).map((name) => join(given, name));
  const runs: [string, () => Promise<number>][] = [
    ['Patina, decoded', () => imagesPerCore(files, { fit: false })],
    [`Patina, decoded and fitted to ${SIZE}`, () => imagesPerCore(files)],
  ];
  if (python !== undefined) {
    const other = await PythonPeer.start('images_peer.py', [String(SIZE), MODE, ...files], {
      python,
    });
    if (other === null) throw new Error(`${python} cannot run the peer; see its message above.`);
    peer = other;
    runs.push([other.facts, async () => Number(await other.ask(''))]);
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
  peer?.stop();
  await rm(scratch, { recursive: true });
}
