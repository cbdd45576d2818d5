/** Operators in a C++ loop, from a source in `bench/` that is compiled for the libtorch in use and kept until either changes. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { packageRoot } from '../src/base/native-path.js';
import type { Device } from '../src/torch/index.js';

/** Each runs its operator so often. */
export type CppLoop<Name extends string> = Record<Name, (device: Device, calls: number) => void>;

export function cppLoop<Name extends string>(source: string): CppLoop<Name> {
  const root = packageRoot();
  const library = loadedLibtorch();
  const path = join(root, 'bench', source);
  const built = join(root, '.patina', 'bench', `${basename(source, '.cc')}.node`);
  const wanted = Math.max(...[path, library].map((file) => statSync(file).mtimeMs));
  if ((statSync(built, { throwIfNoEntry: false })?.mtimeMs ?? 0) < wanted) {
    process.stderr.write(`compiling ${source} ...\n`);
    mkdirSync(dirname(built), { recursive: true });
    compile(path, built, dirname(dirname(library)), join(root, 'node_modules/node-api-headers'));
  }
  return createRequire(import.meta.url)(built) as CppLoop<Name>;
}

/** The libtorch that this process has opened. */
function loadedLibtorch(): string {
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] };
  const library = sharedObjects.find((path) => /libtorch_cpu\.(so|dylib)$/.test(path));
  if (library === undefined) throw new Error('libtorch is not loaded yet');
  return library;
}

/** As `native/CMakeLists.txt` compiles the addon. */
function compile(source: string, built: string, libtorch: string, headers: string): void {
  const lib = join(libtorch, 'lib');
  const linking =
    process.platform === 'darwin'
      ? ['-undefined', 'dynamic_lookup']
      : ['-Wl,--no-as-needed,--allow-shlib-undefined'];
  execFileSync(
    process.env['CXX'] ?? 'c++',
    [
      ...['-std=c++20', '-O2', '-shared', '-fPIC', '-DNAPI_VERSION=9'],
      ...['-isystem', join(headers, 'include'), '-isystem', join(libtorch, 'include')],
      ...[source, '-o', built, `-L${lib}`, `-Wl,-rpath,${lib}`, ...linking],
      ...['-ltorch_cpu', '-lc10'],
    ],
    { stdio: 'inherit' },
  );
}
