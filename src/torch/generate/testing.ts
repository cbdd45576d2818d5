/** For tests: operators that the table does not have, made by the generator on the spot. */

import { compileFunction } from 'node:vm';
import ts from 'typescript';
import * as door from '../door.js';
import { expectValue } from '../errors.js';
import { native } from '../native.js';
import type { OperatorRow } from '../table.js';
import { surfaceName } from './emit.js';
import { generate } from './source.js';

/**
 * Functions by the names that the operators have in TypeScript, whose first argument is what methods are called on.
 *
 * @example const { trace } = operators({ operator: 'trace' }) as { trace: (x: Tensor) => Tensor };
 */
export function operators(...rows: readonly Omit<OperatorRow, 'doc'>[]): unknown {
  const named = rows.map((row) => ({ ...row, doc: 'For a test.' }));
  const source = generate(named, (name, overload) =>
    expectValue(native.schema(name, overload), `${name}.${overload}`),
  );
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  });
  const made: Record<string, unknown> & { TensorOperators?: { prototype: object } } = {};
  const run = compileFunction(outputText, ['exports', 'require']) as (...args: unknown[]) => void;
  run(made, () => door);
  const methods = made.TensorOperators!.prototype as Record<
    string,
    (...args: unknown[]) => unknown
  >;
  return Object.fromEntries(
    named
      .map(surfaceName)
      .map((name) => [
        name,
        made[name] ?? ((self: unknown, ...args: unknown[]) => methods[name]!.apply(self, args)),
      ]),
  );
}
