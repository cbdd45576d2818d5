/** Writes `operators.generated.ts` from the table and the schemas of the libtorch in use (`npm run generate`). */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../base/native-path.js';
import { native } from '../native.js';
import { expectValue } from '../errors.js';
import { OPERATORS } from '../table.js';
import { generate } from './source.js';

const path = join(packageRoot(), 'src', 'torch', 'operators.generated.ts');
writeFileSync(
  path,
  generate(OPERATORS, (name, overload) =>
    expectValue(native.schema(name, overload), `${name}.${overload}`),
  ),
);
process.stderr.write(`wrote ${path}\n`);
