import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { run } from './pixels.js';

const fixture = (name: string) =>
  fileURLToPath(new URL(`../test/fixtures/${name}`, import.meta.url));
const originals = process.env['PATINA_FIXTURES'];

let folder: string;
let printed: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-pixels-'));
  vi.spyOn(console, 'log').mockImplementation((text: string) => void (printed = text));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  vi.restoreAllMocks();
});

describe('pixels against the reference', () => {
  it.each(['pixels', 'pixels-more'])('equals every result of %s to the byte', async (name) => {
    expect(await run([fixture(name)]), printed).toBe(true);
  });

  it.runIf(originals !== undefined)('equals the original fixtures', async () => {
    expect(await run([join(originals ?? '', 'pixels')]), printed).toBe(true);
  });
});

describe('the runner', () => {
  /** A folder with one file, its expectations changed by `change`. */
  function single(file: string, change: (entry: Record<string, unknown>) => void): string {
    const all = JSON.parse(readFileSync(join(fixture('pixels'), 'expected.json'), 'utf8')) as {
      files: (Record<string, unknown> & { file: string })[];
      refused: unknown[];
    };
    const entry = all.files.find((one) => one.file === `files/${file}`)!;
    change(entry);
    mkdirSync(join(folder, 'files'));
    copyFileSync(join(fixture('pixels'), entry.file), join(folder, entry.file));
    copyFileSync(join(fixture('pixels'), 'normalise.npy'), join(folder, 'normalise.npy'));
    const content = { ...all, files: [entry], refused: [{ file: entry.file }] };
    writeFileSync(join(folder, 'expected.json'), JSON.stringify(content));
    return folder;
  }

  it('fails on other bytes and on files that are read and should not be', async () => {
    const results = (entry: Record<string, unknown>) => entry['results'] as { sha256: string }[];
    const path = single('png_3x2.png', (entry) => {
      results(entry)[0]!.sha256 = '0'.repeat(64);
    });
    expect(await run([path])).toBe(false);
    expect(printed).toMatch(/png_3x2\.png stored .* 1 +0 +FAIL +336 pad differs/);
    expect(printed).toMatch(/png_3x2\.png \(must be refused\) +1 +0 +FAIL +it was read/);
  });

  it('writes what it made', async () => {
    const path = single('exif_6.jpg', () => undefined);
    const out = join(folder, 'out');
    await run([path, '--out', out]);
    expect(readdirSync(out).sort()).toEqual(
      [
        ...['336.crop', '336.pad', '56.crop', '56.pad'].flatMap((kind) => [
          `exif_6_jpg.${kind}.png`,
          `exif_6_jpg.${kind}.turned.png`,
        ]),
        'results.json',
      ].sort(),
    );
    const { width, channels } = await sharp(join(out, 'exif_6_jpg.56.pad.png')).metadata();
    expect([width, channels]).toEqual([56, 3]);
  });
});
