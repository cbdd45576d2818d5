/**
 * What a checkpoint holds, as JSON in the form of the pickle fixtures' `expect/*.json`, and its tensors by path. Works
 * through a list of tasks, since values may be nested 100,000 deep; a limit ends values that contain themselves.
 */
import { DataError } from '../src/base/errors.js';
import { torchName } from '../src/formats/pickle/dtypes.js';
import { storedTensor } from '../src/formats/pickle/read.js';
import type { NumpyArray } from '../src/formats/pickle/values.js';
import {
  NumpyScalar,
  PickleRecord,
  PickleTensor,
  PickleTuple,
  TorchDevice,
  TorchDType,
  TorchSize,
  type PickleValue,
} from '../src/formats/pickle/values.js';
import { elementCount, type StoredTensor } from '../src/formats/stored.js';

export interface PickleContent {
  /** The text of `expect/<name>.json`. */
  json: string;
  /** The tensors by their path in the tree. */
  tensors: Map<string, StoredTensor>;
}

/** Characters of the text: shared references can stand for more than any disk holds. */
const LIMIT = 16 * 2 ** 20;

/** Text to be written, or a value to be taken apart; the path of the root is undefined. */
type Task = string | { value: PickleValue; path: string | undefined };

/** Describes the content of `file`. */
export function describeContent(root: PickleValue, file: string): PickleContent {
  const tensors = new Map<string, StoredTensor>();
  const sharing = new Map<string, string[]>();
  const parts: string[] = [];
  let length = 0;
  const tasks: Task[] = [{ value: root, path: undefined }];
  for (let task = tasks.pop(); task !== undefined; task = tasks.pop()) {
    if (typeof task === 'string') {
      parts.push(task);
      length += task.length;
      if (length > LIMIT) throw tooLarge(file);
    } else if (task.value instanceof PickleTensor) {
      const name = task.path === undefined || task.path === '' ? 'value' : task.path;
      const stored = storedTensor(task.value, name, file);
      tensors.set(name, stored);
      if (elementCount(stored.shape) > 0) {
        sharing.set(stored.storage!, [...(sharing.get(stored.storage!) ?? []), name]);
      }
      tasks.push(tensorText(task.value, name));
    } else {
      for (const inner of takeApart(task.value, task.path).reverse()) tasks.push(inner);
    }
  }
  const shared = [...sharing.values()].filter((names) => names.length > 1).sort();
  const suffix = shared.length === 0 ? '' : `, "shared_storage": ${list(shared.map(textList))}`;
  return { json: `{"value": ${parts.join('')}${suffix}}\n`, tensors };
}

/** A value as pieces of text and the values in it. */
function takeApart(value: Exclude<PickleValue, PickleTensor>, path: string | undefined): Task[] {
  const at = (key: string): string => (path === undefined ? key : `${path}.${key}`);
  const inner = (key: string, item: PickleValue): Task => ({ value: item, path: at(key) });
  const items = (all: readonly PickleValue[]): Task[] => [
    '[',
    ...commas(all.map((item, index) => [inner(String(index), item)])),
    ']',
  ];
  if (value === null || typeof value !== 'object') return [atom(value)];
  if (Array.isArray(value)) return items(value);
  if (value instanceof PickleTuple) return ['{"$tuple": ', ...items(value.items), '}'];
  if (value instanceof Map) {
    const pairs = [...value].map(([key, item]): Task[] => [
      '[',
      { value: key, path },
      ', ',
      inner(pythonText(key), item),
      ']',
    ]);
    return ['{"$map": [', ...commas(pairs), ']}'];
  }
  if (value instanceof Set) {
    const sorted = [...value].sort((a, b) => (typeof a === typeof b && a! < b! ? -1 : 1));
    return ['{"$set": [', ...commas(sorted.map((item) => [{ value: item, path }])), ']}'];
  }
  if (value instanceof PickleRecord) {
    const name = text(value.className);
    return [`{"$object": ${name}, "state": `, { value: value.state, path }, '}'];
  }
  return [leaf(value)];
}

function leaf(
  value: Uint8Array | TorchSize | TorchDType | TorchDevice | NumpyScalar | NumpyArray,
): string {
  if (value instanceof Uint8Array) return `{"$bytes": "${Buffer.from(value).toString('hex')}"}`;
  if (value instanceof TorchSize) return `{"$size": ${list(value.sizes.map(atom))}}`;
  if (value instanceof TorchDType) return `{"$dtype": ${text(value.name)}}`;
  if (value instanceof TorchDevice) return `{"$device": ${text(value.name)}}`;
  if (value instanceof NumpyScalar) {
    return `{"$numpy": ${text(value.dtype)}, "value": ${atom(value.value)}}`;
  }
  const { dtype, shape, values } = value.content;
  // Integers stay plain here, however large.
  const elements = list(
    [...values].map((each) => (typeof each === 'bigint' ? String(each) : atom(each))),
  );
  return `{"$ndarray": ${text(dtype)}, "shape": ${list(shape.map(String))}, "values": ${elements}}`;
}

function tensorText(
  { dtype, shape, isParameter, requiresGrad }: PickleTensor,
  name: string,
): string {
  const sizes = list(shape.map(String));
  const flags = `${isParameter ? ', "parameter": true' : ''}${requiresGrad ? ', "requires_grad": true' : ''}`;
  return `{"$tensor": ${text(name)}, "dtype": ${text(torchName(dtype))}, "shape": ${sizes}${flags}}`;
}

function atom(value: null | boolean | bigint | number | string): string {
  if (typeof value === 'string') return text(value);
  if (typeof value === 'bigint') {
    const isSafe = value > -(2n ** 53n) && value < 2n ** 53n;
    return isSafe ? String(value) : `{"$int": "${value}"}`;
  }
  if (typeof value !== 'number') return String(value);
  if (Number.isNaN(value)) return '{"$float": "nan"}';
  if (!Number.isFinite(value)) return `{"$float": "${value > 0 ? 'inf' : '-inf'}"}`;
  if (Object.is(value, -0)) return '{"$float": "-0"}';
  return pythonFloat(value);
}

/** The shortest decimal that gives the float back, in Python's form: `1.0`, `1e-08`, `1e+16`. */
function pythonFloat(value: number): string {
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  const size = Math.abs(Number(exponent));
  if (Number(exponent) >= 16 || Number(exponent) < -4) {
    return `${digits}e${exponent[0]!}${String(size).padStart(2, '0')}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

/** A key as Python's `str` writes it, for paths. */
function pythonText(key: PickleValue): string {
  if (key === null) return 'None';
  if (typeof key === 'boolean') return key ? 'True' : 'False';
  if (typeof key === 'number') return Number.isFinite(key) ? pythonFloat(key) : String(key);
  if (key instanceof PickleTuple) {
    const [only, ...more] = key.items.map((item) =>
      typeof item === 'string' ? pythonQuoted(item) : pythonText(item),
    );
    return more.length === 0
      ? `(${only ?? ''}${only === undefined ? '' : ','})`
      : `(${[only, ...more].join(', ')})`;
  }
  return typeof key === 'object' ? key.constructor.name : String(key);
}

/** A text as Python's `repr` writes it: what cannot be printed is escaped. */
function pythonQuoted(value: string): string {
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const names: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };
  const escaped = Array.from(value, (char) => {
    if (char === quote || char === '\\') return `\\${char}`;
    if (char === ' ' || !/[\p{C}\p{Z}]/u.test(char)) return char;
    const hex = char.codePointAt(0)!.toString(16);
    const form = hex.length <= 2 ? 'x' : hex.length <= 4 ? 'u' : 'U';
    return names[char] ?? `\\${form}${hex.padStart({ x: 2, u: 4, U: 8 }[form], '0')}`;
  });
  return quote + escaped.join('') + quote;
}

/** JSON in ASCII, as Python's `json.dumps` writes it. */
function text(value: string): string {
  return JSON.stringify(value).replace(
    /[\x7f-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function textList(values: readonly string[]): string {
  return list(values.map(text));
}

function list(values: readonly string[]): string {
  return `[${values.join(', ')}]`;
}

function commas(groups: readonly Task[][]): Task[] {
  return groups.flatMap((group, index) => (index === 0 ? group : [', ', ...group]));
}

function tooLarge(file: string): DataError {
  return new DataError(`${file}: written out, its content takes more than ${LIMIT} characters.`, {
    code: 'E_CONTENT_TOO_LARGE',
    hint: 'Shared references stand for many copies here; look at the values instead.',
  });
}
