/** The TypeScript sources, compiled to dist/, and the pages of web/, bundled to dist/web/. */
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
const pages = (root) => list(join(root, 'web')).map((path) => `web/${path}`);

/** @param {string} root */
export function javascriptHash(root) {
  return hashFiles(root, [...CONFIGURATION, ...sources(root), ...pages(root)]);
}

/**
 * Whether dist/ holds a file for each source; somebody may have deleted some.
 *
 * @param {string} root
 */
export function javascriptIsThere(root) {
  const compiled = sources(root)
    .filter((path) => !path.endsWith('.d.ts'))
    .map((path) => path.replace(/\.ts$/, '.js'));
  const bundled = pages(root).filter((path) => /^web\/[^/]+\.html$/.test(path));
  return [...compiled, ...bundled].every((path) => exists(join(root, 'dist', path)));
}

/**
 * `tsc -b`, which compiles what changed, and `vite build` where there are pages.
 *
 * @param {string} root
 * @param {object} options
 * @param {boolean} options.force Compile everything.
 */
export async function compileJavascript(root, { force }) {
  const tsc = ['typescript/bin/tsc', '-b', 'tsconfig.build.json', ...(force ? ['--force'] : [])];
  const said = await complaints(root, tsc);
  if (said !== undefined) {
    throw new SetupError(`The TypeScript sources do not compile:\n${said}`, {
      code: 'E_TYPESCRIPT',
      hint: 'Mend the errors named above, then run "npm run setup"; "npm run types" shows all of them.',
    });
  }
  if (pages(root).length === 0) return;
  const bundling = await complaints(root, [
    'vite/bin/vite.js',
    'build',
    '-c',
    'web/vite.config.js',
  ]);
  if (bundling !== undefined) {
    throw new SetupError(`The pages cannot be bundled:\n${bundling}`, {
      code: 'E_PAGES',
      hint: 'Mend the errors named above, then run "npm run setup".',
    });
  }
}

/**
 * Runs a tool of node_modules.
 *
 * @param {string} root
 * @param {string[]} command
 * @returns {Promise<string | undefined>} What it said, if it failed.
 */
async function complaints(root, [tool = '', ...args]) {
  const path = join(root, 'node_modules', tool);
  const { status, stdout, stderr } = await run(process.execPath, [path, ...args], { cwd: root });
  return status === 0 ? undefined : tail(stdout + stderr, 20);
}
