/** The generated operators are those of the table, and the emitter's rules. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../base/native-path.js';
import { expectValue } from '../errors.js';
import { torchFacts } from '../device.js';
import { native, type Schema } from '../native.js';
import { OPERATORS } from '../table.js';
import { camelCase, emit, overloadsOf } from './emit.js';
import { generate } from './source.js';

const schemaOf = (name: string, overload: string): Schema =>
  expectValue(native.schema(name, overload), `${name}.${overload}`);

// The schemas of other versions may have more arguments, with defaults.
test.runIf(torchFacts().version.startsWith('2.11.'))(
  'operators.generated.ts is current (`npm run generate`)',
  () => {
    const path = join(packageRoot(), 'src', 'torch', 'operators.generated.ts');
    expect(generate(OPERATORS, schemaOf)).toBe(readFileSync(path, 'utf8'));
  },
);

test('the table names each operator once and says what it computes', () => {
  const names = OPERATORS.flatMap(({ operator }) => overloadsOf(operator));
  expect(new Set(names).size).toBe(names.length);
  for (const { doc } of OPERATORS) expect(doc).toMatch(/\S.*\.$/);
});

describe('emit', () => {
  const emitted = (operator: string, options: object = {}): ReturnType<typeof emit> =>
    emit(
      { operator, doc: 'Doc.', ...options },
      overloadsOf(operator).map((full) => {
        const [name, overload = ''] = full.split('.');
        return { operator: full, schema: schemaOf(name!, overload) };
      }),
    );

  test('names are camel case; leading and trailing underscores stay', () => {
    expect(['_fused_rms_norm', 'index_put_', 'log1p', '_to_copy'].map(camelCase)).toEqual([
      '_fusedRmsNorm',
      'indexPut_',
      'log1p',
      '_toCopy',
    ]);
  });

  test('an operator on self is a method, another one a function', () => {
    expect(emitted('neg').method).toBe(true);
    expect(emitted('cat').code).toContain('export function cat(');
  });

  test('a namespace is part of what is called and documented, not of the name', () => {
    const { code, declarations, method } = emitted('patina::overwrite_');
    expect(method).toBe(true);
    expect(code).toContain('overwrite_(source: Tensor): this {');
    expect(code).toContain('`patina::overwrite_(Tensor self, Tensor source)`');
    expect(declarations).toContain("declare('patina::overwrite_', ");
  });

  test('keyword-only arguments go into one object, optional ones with their defaults', () => {
    expect(emitted('addmm').code).toContain(
      'addmm(mat1: Tensor, mat2: Tensor, { beta = 1, alpha = 1 }: { beta?: Scalar | undefined; alpha?: Scalar | undefined } = {}): Tensor {',
    );
  });

  test('two overloads become one that looks at the differing argument', () => {
    const { code, declarations } = emitted('mul.Tensor|Scalar');
    expect(code).toContain('mul(other: Tensor | Scalar): Tensor {');
    expect(code).toContain("if (typeof other === 'object') {");
    expect(declarations.split('\n')).toHaveLength(2);
  });

  test('results that may be missing are typed so', () => {
    expect(emitted('_fused_rms_norm_backward', { nullable: true }).code).toContain(
      '[Tensor | null, Tensor | null]',
    );
  });

  test('an argument or default that is not understood stops the generator', () => {
    const schema: Schema = {
      arguments: [{ name: 'x', type: 'Stream', keywordOnly: false, writes: false }],
      returns: [],
    };
    const row = { operator: 'odd', doc: 'Odd.' };
    expect(() => emit(row, [{ operator: 'odd', schema }])).toThrow(/no conversion .* 'Stream'/);
    const odd = {
      arguments: [{ name: 'x', type: 'int', keywordOnly: false, writes: false, default: 'many' }],
      returns: [],
    };
    expect(() => emit(row, [{ operator: 'odd', schema: odd }])).toThrow(/'many' of 'x'/);
  });
});
