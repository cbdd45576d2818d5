/** Writes the typed surface of one operator: from its row in the table and its schemas to a method or a function. */

import { dtypeName } from '../dtype.js';
import type { Schema, SchemaArgument } from '../native.js';
import type { OperatorRow } from '../table.js';

/** An overload of a row with its schema. */
export interface Overload {
  /** `add.Tensor`. */
  readonly operator: string;
  readonly schema: Schema;
}

/** What one row becomes. */
export interface Emitted {
  /** Constants: the declared operators. */
  readonly declarations: string;
  readonly code: string;
  /** Method of `Tensor` or function. */
  readonly method: boolean;
}

/** Names of the overloads of a row: `add.Tensor|Scalar` is `add.Tensor` and `add.Scalar`. */
export function overloadsOf(operator: string): string[] {
  const [first, ...others] = operator.split('|');
  const name = first!.split('.')[0]!;
  return [first!, ...others.map((overload) => `${name}.${overload}`)];
}

/** `_fused_rms_norm` is `_fusedRmsNorm`; leading and trailing underscores stay. */
export function camelCase(name: string): string {
  return name.replace(/(?<=[a-zA-Z0-9])_+([a-zA-Z0-9])/g, (_, letter: string) =>
    letter.toUpperCase(),
  );
}

/** What a row is called in TypeScript: a namespace does not show. */
export function surfaceName({ operator, as }: OperatorRow): string {
  return as ?? camelCase(operator.replace(/^\w+::/, '').split(/[.|]/)[0]!);
}

interface ArgumentKind {
  readonly type: string;
  /** Numbers it takes in the buffer; 0 if that depends on the value. */
  readonly width: number;
  /** Statement that writes it; for variable widths an expression that gives the next position. */
  readonly write: (at: string, name: string) => string;
}

const assign = (value: (name: string) => string) => (at: string, name: string) =>
  `B[${at}] = ${value(name)};`;

const KINDS: Readonly<Record<string, ArgumentKind>> = {
  Tensor: { type: 'Tensor', width: 1, write: assign((name) => `${name}?.handle`) },
  'Tensor?': {
    type: 'Tensor | null',
    width: 1,
    write: assign((name) => `optionalHandle(${name})`),
  },
  int: { type: 'number', width: 1, write: assign((name) => `numberArgument(${name})`) },
  'int?': {
    type: 'number | null',
    width: 1,
    write: assign((name) => `optionalInteger(${name})`),
  },
  float: { type: 'number', width: 1, write: assign((name) => `numberArgument(${name})`) },
  'float?': {
    type: 'number | null',
    width: 2,
    write: (at, name) => `optionalFloat(${at}, ${name});`,
  },
  bool: { type: 'boolean', width: 1, write: assign((name) => `booleanArgument(${name})`) },
  'bool?': {
    type: 'boolean | null',
    width: 1,
    write: assign((name) => `optionalBoolean(${name})`),
  },
  Scalar: { type: 'Scalar', width: 2, write: (at, name) => `putScalar(${at}, ${name});` },
  'Scalar?': { type: 'Scalar | null', width: 2, write: (at, name) => `putScalar(${at}, ${name});` },
  'ScalarType?': {
    type: 'DType | null',
    width: 1,
    write: assign((name) => `dtypeArgument(${name})`),
  },
  ScalarType: { type: 'DType', width: 1, write: assign((name) => `dtypeArgument(${name})`) },
  'Layout?': {
    type: 'Layout | null',
    width: 1,
    write: assign((name) => `layoutArgument(${name})`),
  },
  MemoryFormat: {
    type: 'MemoryFormat',
    width: 1,
    write: assign((name) => `formatArgument(${name})`),
  },
  'MemoryFormat?': {
    type: 'MemoryFormat | null',
    width: 1,
    write: assign((name) => `formatArgument(${name})`),
  },
  'Device?': {
    type: 'Device | null',
    width: 1,
    write: assign((name) => `deviceArgument(${name})`),
  },
  'Generator?': {
    type: 'RandomGenerator | null',
    width: 1,
    write: assign((name) => `generatorArgument(${name})`),
  },
  str: { type: 'string', width: 1, write: assign((name) => `stringArgument(${name})`) },
  'str?': { type: 'string | null', width: 1, write: assign((name) => `stringArgument(${name})`) },
  'int[]': {
    type: 'readonly number[]',
    width: 0,
    write: (at, name) => `putNumbers(${at}, ${name})`,
  },
  'int[]?': {
    type: 'readonly number[] | null',
    width: 0,
    write: (at, name) => `putNumbers(${at}, ${name})`,
  },
  'float[]': {
    type: 'readonly number[]',
    width: 0,
    write: (at, name) => `putNumbers(${at}, ${name})`,
  },
  'float[]?': {
    type: 'readonly number[] | null',
    width: 0,
    write: (at, name) => `putNumbers(${at}, ${name})`,
  },
  'bool[]': {
    type: 'readonly boolean[]',
    width: 0,
    write: (at, name) => `putBools(${at}, ${name})`,
  },
  'Tensor[]': {
    type: 'readonly Tensor[]',
    width: 0,
    write: (at, name) => `putTensors(${at}, ${name})`,
  },
  'Tensor?[]': {
    type: 'readonly (Tensor | null)[]',
    width: 0,
    write: (at, name) => `putTensors(${at}, ${name})`,
  },
  'Scalar[]': {
    type: 'readonly Scalar[]',
    width: 0,
    write: (at, name) => `putScalars(${at}, ${name})`,
  },
};

function kindOf(argument: SchemaArgument): ArgumentKind {
  const plain = argument.type.replace(/\[\d+\]/, '[]');
  const kind = KINDS[plain];
  if (kind === undefined)
    throw new Error(`no conversion for an argument of type '${argument.type}'`);
  return kind;
}

const FORMATS = ['contiguous', 'preserve', 'channels_last'];

/** A schema's default as a TypeScript literal; `undefined` for None and for arguments without one. */
function defaultLiteral(argument: SchemaArgument): string | undefined {
  const text = argument.default;
  if (text === undefined || text === 'None') return undefined;
  if (text === 'True' || text === 'False') return text.toLowerCase();
  if (text.startsWith('[')) return text;
  if (argument.type.startsWith('str')) return `'${text.replace(/^"|"$/g, '')}'`;
  const value = Number(text);
  if (argument.type.startsWith('ScalarType')) return `'${dtypeName(value)!}'`;
  if (argument.type.startsWith('MemoryFormat')) return `'${FORMATS[value]!}'`;
  if (!Number.isFinite(value))
    throw new Error(`default '${text}' of '${argument.name}' is not understood`);
  return String(value);
}

const isOptional = (argument: SchemaArgument): boolean =>
  argument.default !== undefined || (argument.keywordOnly && argument.type.endsWith('?'));

/** Positional parameters in ATen's order, keyword-only ones in one object; types of several overloads joined. */
function parameters(overloads: readonly Overload[], method: boolean): string {
  const first = overloads[0]!.schema.arguments;
  const typesOf = (index: number): string => {
    const name = first[index]!.name;
    const types = overloads.map(({ schema }) => {
      const same = schema.arguments.find((argument) => argument.name === name);
      return kindOf(same ?? schema.arguments[index] ?? first[index]!).type;
    });
    return [...new Set(types)].join(' | ');
  };
  const positional: string[] = [];
  const keywordNames: string[] = [];
  const keywordTypes: string[] = [];
  let keywordRequired = false;
  first.forEach((argument, index) => {
    if (method && index === 0) return;
    const name = camelCase(argument.name);
    const literal = defaultLiteral(argument);
    const type = typesOf(index);
    if (argument.keywordOnly) {
      keywordNames.push(literal === undefined ? name : `${name} = ${literal}`);
      keywordTypes.push(
        `${name}${isOptional(argument) ? '?' : ''}: ${type}${isOptional(argument) ? ' | undefined' : ''}`,
      );
      keywordRequired ||= !isOptional(argument);
    } else if (literal !== undefined) {
      positional.push(`${name}: ${type} = ${literal}`);
    } else {
      positional.push(`${name}${isOptional(argument) ? '?' : ''}: ${type}`);
    }
  });
  if (keywordNames.length > 0) {
    positional.push(
      `{ ${keywordNames.join(', ')} }: { ${keywordTypes.join('; ')} }${keywordRequired ? '' : ' = {}'}`,
    );
  }
  return positional.join(', ');
}

/** Statements that write the arguments of one overload, whose names may differ from the first overload's. */
function writes(overload: Overload, names: readonly string[], method: boolean): string[] {
  const lines: string[] = [];
  let offset = 0;
  let variable = false;
  const last = overload.schema.arguments.length - 1;
  overload.schema.arguments.forEach((argument, index) => {
    const kind = kindOf(argument);
    const name = method && index === 0 ? 'this' : names[index]!;
    const at = variable ? (offset === 0 ? 'n' : `n + ${offset}`) : String(offset);
    if (method && index === 0) {
      lines.push(`B[${at}] = this.handle;`);
      offset += 1;
    } else if (kind.width > 0) {
      lines.push(kind.write(at, name));
      offset += kind.width;
    } else {
      const next = kind.write(at, name);
      lines.push(index === last ? `${next};` : `${variable ? '' : 'let '}n = ${next};`);
      variable = true;
      offset = 0;
    }
  });
  return lines;
}

interface Result {
  readonly type: string;
  /** Statements after the arguments are written. */
  readonly lines: (id: string) => string[];
}

function resultOf(row: OperatorRow, schema: Schema, method: boolean): Result {
  const { returns } = schema;
  if (returns.length === 0) return { type: 'void', lines: (id) => [`call(${id});`] };
  if (returns.every((result) => result.writes)) {
    return method
      ? { type: 'this', lines: (id) => [`call(${id});`, 'return this;'] }
      : { type: 'void', lines: (id) => [`call(${id});`] };
  }
  if (returns.length === 1) {
    const [{ type }] = returns as [SchemaArgument];
    if (type === 'Tensor') return { type: 'Tensor', lines: (id) => [`return callTensor(${id});`] };
    if (type === 'Tensor[]')
      return { type: 'Tensor[]', lines: (id) => [`call(${id});`, 'return tensorList();'] };
    if (type === 'bool')
      return { type: 'boolean', lines: (id) => [`call(${id});`, 'return B[0] === 1;'] };
    return { type: 'number', lines: (id) => [`call(${id});`, 'return B[0]!;'] };
  }
  const types: string[] = [];
  const values: string[] = [];
  returns.forEach(({ type }, index) => {
    if (type === 'Tensor') {
      types.push(row.nullable ? 'Tensor | null' : 'Tensor');
      values.push(row.nullable ? `optionalTensorAt(${index})` : `tensorAt(${index})`);
    } else {
      types.push('number');
      values.push(`B[${index}]!`);
    }
  });
  return {
    type: `[${types.join(', ')}]`,
    lines: (id) => [`call(${id});`, `return [${values.join(', ')}];`],
  };
}

const constantName = (operator: string): string => operator.replace(/\W/g, '_').toUpperCase();

function declaration({ operator, schema }: Overload): string {
  const args = schema.arguments.map(({ name, type }) => `'${name}:${type}'`).join(', ');
  const inPlace = schema.returns.length > 0 && schema.returns.every((result) => result.writes);
  return `const ${constantName(operator)} = declare('${operator}', [${args}]${inPlace ? ', true' : ''});`;
}

/** The schema as libtorch writes it, for the documentation. */
function schemaText({ operator, schema }: Overload): string {
  let starred = false;
  const args = schema.arguments.map((argument) => {
    const star = argument.keywordOnly && !starred ? ((starred = true), '*, ') : '';
    return `${star}${argument.type} ${argument.name}${argument.default === undefined ? '' : `=${argument.default}`}`;
  });
  return `${operator.includes('::') ? '' : 'aten::'}${operator}(${args.join(', ')})`;
}

export function emit(row: OperatorRow, overloads: readonly Overload[]): Emitted {
  const first = overloads[0]!;
  const method =
    first.schema.arguments[0]?.name === 'self' && first.schema.arguments[0].type === 'Tensor';
  const name = surfaceName(row);
  const signature = parameters(overloads, method);
  const result = resultOf(row, first.schema, method);
  const names = first.schema.arguments.map((argument) => camelCase(argument.name));
  const body: string[] = [];
  const differing = first.schema.arguments.findIndex(
    (argument, index) =>
      overloads.length > 1 &&
      kindOf(argument).type !== kindOf(overloads[1]!.schema.arguments[index]!).type,
  );
  overloads.forEach((overload, index) => {
    // Arguments of a further overload go by name, or by place where the differing one has another name.
    const own = overload.schema.arguments.map((argument, place) => {
      const byName = camelCase(argument.name);
      return names.includes(byName) && place !== differing ? byName : names[place]!;
    });
    const lines = [
      ...writes(overload, own, method),
      ...result.lines(constantName(overload.operator)),
    ];
    if (index < overloads.length - 1) {
      const value = names[differing]!;
      const returns = lines.some((line) => line.startsWith('return'));
      const branch = [...lines, ...(returns ? [] : ['return;'])].map((line) => `  ${line}`);
      // Exactly one of the two takes an object (a tensor or a list of tensors).
      const object = kindOf(overload.schema.arguments[differing]!).type.includes('Tensor');
      body.push(`if (typeof ${value} ${object ? '===' : '!=='} 'object') {`, ...branch, '}');
    } else {
      body.push(...lines);
    }
  });
  const doc = [
    `/**`,
    ` * ${row.doc}`,
    ' *',
    ...overloads.map((overload) => ` * \`${schemaText(overload)}\``),
    ' */',
  ];
  const head = method
    ? `${name}(${signature}): ${result.type} {`
    : `export function ${name}(${signature}): ${result.type} {`;
  const indent = method ? '  ' : '';
  const code = [...doc, head, ...body.map((line) => `  ${line}`), '}']
    .map((line) => `${indent}${line}`)
    .join('\n');
  return { declarations: overloads.map(declaration).join('\n'), code, method };
}
