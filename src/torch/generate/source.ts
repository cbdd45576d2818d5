/** The whole generated module: declarations, methods of `Tensor`, functions. */

import type { Schema } from '../native.js';
import type { OperatorRow } from '../table.js';
import { emit, overloadsOf, type Overload } from './emit.js';

/** Everything of `door.ts` that generated code may call or name. */
const DOOR = [
  'B',
  'booleanArgument',
  'call',
  'callTensor',
  'declare',
  'deviceArgument',
  'dtypeArgument',
  'formatArgument',
  'generatorArgument',
  'layoutArgument',
  'numberArgument',
  'optionalBoolean',
  'optionalFloat',
  'optionalHandle',
  'optionalInteger',
  'optionalTensorAt',
  'putBools',
  'putNumbers',
  'putScalar',
  'putScalars',
  'putTensors',
  'stringArgument',
  'tensorAt',
  'tensorList',
  'type Layout',
  'type MemoryFormat',
  'type Scalar',
];

function header(code: string): string {
  const used = DOOR.filter((name) => new RegExp(`\\b${name.replace('type ', '')}\\b`).test(code));
  return `/** Made by \`npm run generate\` from \`table.ts\` and libtorch's schemas. Do not edit. */

/* eslint-disable */
import {
${used.map((name) => `  ${name},`).join('\n')}
} from './door.js';
import type { DType } from './dtype.js';
import type { Device } from './native.js';
import type { RandomGenerator } from './random.js';
import type { Tensor } from './tensor.js';
`;
}

/** The source text of \`operators.generated.ts\`. */
export function generate(
  rows: readonly OperatorRow[],
  schemaOf: (name: string, overload: string) => Schema,
): string {
  const emitted = rows.map((row) => {
    const overloads: Overload[] = overloadsOf(row.operator).map((operator) => {
      const [name, overload = ''] = operator.split('.');
      return { operator, schema: schemaOf(name!, overload) };
    });
    return emit(row, overloads);
  });
  const declarations = emitted.map(({ declarations }) => declarations).join('\n');
  const methods = emitted.filter(({ method }) => method).map(({ code }) => code);
  const functions = emitted.filter(({ method }) => !method).map(({ code }) => code);
  const code = [
    declarations,
    '',
    '/** The operators whose first argument is the tensor itself. */',
    'export abstract class TensorOperators {',
    '  abstract handle: number;',
    '',
    methods.join('\n\n'),
    '}',
    '',
    functions.join('\n\n'),
    '',
  ].join('\n');
  return `${header(code)}\n${code}`;
}
