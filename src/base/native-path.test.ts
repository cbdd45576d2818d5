import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { fingerprint, libraryFile } from './fingerprint.js';
import { nativeLibrary, packageRoot } from './native-path.js';

const override = process.env['PATINA_ADDON'];
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-native-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
  if (override === undefined) delete process.env['PATINA_ADDON'];
  else process.env['PATINA_ADDON'] = override;
});

function packageWith(setup: string | undefined): string {
  writeFileSync(join(folder, 'package.json'), '{"name":"patina"}');
  mkdirSync(join(folder, 'dist', 'src', 'base'), { recursive: true });
  if (setup !== undefined) {
    mkdirSync(join(folder, '.patina'));
    writeFileSync(join(folder, '.patina', 'setup.json'), setup);
  }
  delete process.env['PATINA_ADDON'];
  return join(folder, 'dist', 'src', 'base');
}

describe('nativeLibrary', () => {
  it('takes the folder of the environment variable', () => {
    writeFileSync(join(folder, 'pixels.node'), '');
    process.env['PATINA_ADDON'] = folder;
    expect(nativeLibrary('pixels')).toBe(join(folder, 'pixels.node'));
    expect(() => nativeLibrary('patina')).toThrow(
      expect.objectContaining({ code: 'E_NOT_SET_UP', hint: 'Run `npm run setup`.', exitCode: 3 }),
    );
  });

  it('finds what setup has recorded', () => {
    const from = packageWith('{"addon":{"folder":".patina/addon"}}');
    mkdirSync(join(folder, '.patina', 'addon'));
    writeFileSync(join(folder, '.patina', 'addon', 'patina.node'), '');
    expect(nativeLibrary('patina', from)).toBe(join(folder, '.patina', 'addon', 'patina.node'));
  });

  it('refuses a libtorch that is gone or not the one that the addon was built for', () => {
    const lib = join(folder, 'torch', 'lib');
    const main = join(lib, libraryFile('torch_cpu'));
    mkdirSync(lib, { recursive: true });
    writeFileSync(main, 'the one');
    // Recorded relative to the package.
    const libtorch = { folder: 'torch', fingerprint: fingerprint(join(folder, 'torch')) };
    const from = packageWith(JSON.stringify({ addon: { folder: '.patina' }, libtorch }));
    writeFileSync(join(folder, '.patina', 'patina.node'), '');
    writeFileSync(join(folder, '.patina', 'pixels.node'), '');
    expect(nativeLibrary('patina', from)).toBe(join(folder, '.patina', 'patina.node'));
    rmSync(main);
    const gone = { code: 'E_LIBTORCH_GONE', exitCode: 3 };
    expect(() => nativeLibrary('patina', from)).toThrow(expect.objectContaining(gone));
    writeFileSync(main, 'another');
    const changed = { code: 'E_LIBTORCH_CHANGED', exitCode: 3 };
    expect(() => nativeLibrary('patina', from)).toThrow(expect.objectContaining(changed));
    // The addon for pixels has nothing to do with libtorch.
    rmSync(main);
    expect(nativeLibrary('pixels', from)).toBe(join(folder, '.patina', 'pixels.node'));
  });

  it.each([undefined, '', '{', '[]', '{"addon":null}', '{"addon":{"folder":3}}'])(
    'says what to run where the record is %j',
    (record) => {
      const from = packageWith(record);
      expect(() => nativeLibrary('pixels', from)).toThrow(
        expect.objectContaining({ code: 'E_NOT_SET_UP' }),
      );
    },
  );
});

describe('packageRoot', () => {
  it('walks up over packages of other names', () => {
    const from = packageWith(undefined);
    writeFileSync(join(folder, 'dist', 'package.json'), '{"name":"other"}');
    expect(packageRoot(from)).toBe(folder);
  });

  it('throws where there is none', () => {
    expect(() => packageRoot(folder)).toThrow(expect.objectContaining({ code: 'E_NOT_SET_UP' }));
  });
});
