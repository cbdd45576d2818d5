import { cpSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { fingerprint, libraryFile } from './fingerprint.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-fingerprint-'));
  mkdirSync(join(folder, 'lib'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const library = (root = folder): string => join(root, 'lib', libraryFile('torch_cpu'));

describe('fingerprint', () => {
  it('is that of a copy, whose time differs', () => {
    writeFileSync(library(), Buffer.alloc(3 << 20, 'code'));
    const copy = join(folder, 'copy');
    cpSync(join(folder, 'lib'), join(copy, 'lib'), { recursive: true });
    utimesSync(library(copy), 1, 1);
    expect(fingerprint(copy)).toBe(fingerprint(folder));
  });

  it.each(['', 'a small librarY', 'a smaller library'])(
    'tells "a small library" from "%s"',
    (text) => {
      writeFileSync(library(), 'a small library');
      const before = fingerprint(folder);
      writeFileSync(library(), text);
      expect(fingerprint(folder)).not.toBe(before);
    },
  );

  it('is none where the library is gone', () => {
    expect(fingerprint(folder)).toBeUndefined();
  });
});
