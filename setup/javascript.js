/** The TypeScript sources, compiled to dist/. */
import { join } from 'node:path';

import { SetupError } from './errors.js';
import { exists, hashFiles, list } from './files.js';
import { run, tail } from './tools.js';

const FOLDERS = ['src', 'parity', 'bench', 'examples'];
const CONFIGURATION = ['package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];

/** @param {string} root */
function sources(root) {
  return FOLDERS.flatMap((folder) =>
    list(join(root, folder), (path) => /\.[tj]s$/.test(path) && !path.endsWith('.test.ts')).map(
      (path) => `${folder}/${path}`,
    ),
  );
}

/** @param {string} root */
export function javascriptHash(root) {
  return hashFiles(root, [...CONFIGURATION, ...sources(root)]);
}

/**
 * Whether dist/ holds a file for each source; somebody may have deleted some.
 *
 * @param {string} root
 */
export function javascriptIsThere(root) {
  return sources(root)
    .filter((path) => !path.endsWith('.d.ts'))
    .every((path) => exists(join(root, 'dist', path.replace(/\.ts$/, '.js'))));
}

/**
 * `tsc -b`, which compiles what changed.
 *
 * @param {string} root
 * @param {object} options
 * @param {boolean} options.force Compile everything.
 */
export async function compileJavascript(root, { force }) {
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = ['-b', 'tsconfig.build.json', ...(force ? ['--force'] : [])];
  const { status, stdout, stderr } = await run(process.execPath, [tsc, ...args], { cwd: root });
  if (status === 0) return;
  throw new SetupError(`The TypeScript sources do not compile:\n${tail(stdout + stderr, 20)}`, {
    code: 'E_TYPESCRIPT',
    hint: 'Mend the errors named above, then run "npm run setup"; "npm run types" shows all of them.',
  });
}
