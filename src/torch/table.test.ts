/** The table holds what is used: a row that nothing but tests calls goes, unless it is named here with its reason. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import { surfaceName } from './generate/emit.js';
import { Tensor } from './index.js';
import { OPERATORS } from './table.js';

/** Rows that are there for another reason. */
const RESERVED: Readonly<Record<string, string>> = {
  fp8Product: 'fp8_project calls it, natively',
  fp8Transpose: 'fp8_project_backward calls it, natively',
  overwrite: 'sharding refills with it the parameters that it released',
  pinMemory: 'offloading copies through page-locked memory',
  roundStochastic_: 'adamw_ rounds by it, natively, where it has no kernel of its own',
  sub_: 'finite differences, by which layers are checked',
  var: 'the spread of initial weights is checked with it',
};

/** Sources with tensors that are no tests, and the examples of the documentation. */
function sources(): string[] {
  const root = packageRoot();
  const files = ['src', 'bench', 'parity', 'docs'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => /\.(ts|md)$/.test(path) && !/(\.test|testing|\.generated)\.ts$/.test(path))
      .map((path) => join(folder, path)),
  );
  return [...files, 'README.md']
    .map((path) => readFileSync(join(root, path), 'utf8'))
    .filter((text) => text.match(IMPORT));
}

const IMPORT =
  /import (?:type )?\{([^}]*)\} from '(?:[^']*torch\/index\.js|\.\/(?:operators\.generated|tensor)\.js|patina)'/g;
/** What JavaScript's own objects have under the names of operators. */
const NOT_OURS = /\b(Math|Promise|console|performance)\.\w+/g;

test('every row is used outside of tests, or named here with its reason', () => {
  const called = new Set<string>();
  const imported = new Set<string>();
  for (const source of sources()) {
    const text = source.replace(NOT_OURS, '');
    for (const [, name] of text.matchAll(/\.(\w+)\(/g)) called.add(name!);
    for (const [, list] of text.matchAll(IMPORT)) {
      for (const name of list!.split(',')) imported.add(name.trim());
    }
  }
  const unused = OPERATORS.map(surfaceName).filter(
    (name) => !(name in Tensor.prototype ? called : imported).has(name),
  );
  expect(unused.toSorted()).toEqual(Object.keys(RESERVED).toSorted());
});
