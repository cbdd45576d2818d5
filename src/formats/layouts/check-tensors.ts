/** The strict comparison of what a model needs with what files hold: every difference by name, refused unless allowed. */
import { DataError } from '../../base/errors.js';
import { shortText } from '../../base/short-text.js';
import { matchesAny } from '../../base/name-pattern.js';
import { elementCount, type StoredTensor } from '../stored.js';
import { brief } from '../strict-json.js';
import { listSome } from './list-names.js';

export interface CheckInput {
  /** What messages call the tensors: a path, or several. */
  where: string;
  /** What is there, by Patina's own names. */
  tensors: ReadonlyMap<string, StoredTensor>;
  /** What is there and has no such name, by stored name. */
  unexpected?: readonly string[];
  /** What the model needs: shapes by name, from its configuration. */
  expected: ReadonlyMap<string, readonly number[]>;
  /** Names that stand for another tensor, as `lm_head.weight` for the embeddings in a model that ties them. */
  tied?: ReadonlyMap<string, string>;
  /** Names that may be missing, unexpected or unfit; `model.vision_tower.*` stands for all that begin so. */
  allow?: readonly string[];
}

export interface CheckedTensors {
  /** What the model gets, in the order of `expected`. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** What it does not get, which was allowed. */
  readonly missing: readonly string[];
  /** What is there and not used: allowed, or tied to another tensor. */
  readonly unused: readonly string[];
}

/** What is wrong with one tensor. */
export interface TensorFault {
  readonly kind: 'missing' | 'unexpected' | 'unfit';
  readonly name: string;
  /** The name, and what does not fit. */
  readonly text: string;
}

/** Tensors that do not fit the model; `faults` has all of them, the message the first few. */
export class TensorsError extends DataError {
  constructor(
    where: string,
    readonly faults: readonly TensorFault[],
  ) {
    const lines = (['missing', 'unexpected', 'unfit'] as const).flatMap((kind) => {
      const texts = faults.filter((fault) => fault.kind === kind).map(({ text }) => text);
      return texts.length === 0 ? [] : [`\n  ${texts.length} ${kind}: ${listSome(texts)}`];
    });
    super(`The tensors of ${where} do not fit the model.${lines.join('')}`, {
      code: 'E_TENSORS',
      hint: 'Check that weights and configuration belong together, or allow these tensors by name.',
    });
  }
}

const FLOATING: ReadonlySet<string> = new Set(['F64', 'F32', 'BF16', 'F16']);

/**
 * Compares names, shapes and types; reads no tensor.
 *
 * @throws TensorsError E_TENSORS listing what is missing, what is unexpected, and what has a wrong shape or holds no fractions
 */
export function checkTensors({
  where,
  tensors,
  unexpected = [],
  expected,
  tied = new Map(),
  allow = [],
}: CheckInput): CheckedTensors {
  const used = new Map<string, StoredTensor>();
  const taken = new Set<string>();
  const faults: TensorFault[] = [];
  // Of a part, or an adapter, that was named beside.
  const fileOf = ({ file }: StoredTensor): string =>
    file.startsWith(where) ? '' : ` in ${shortText(file)}`;
  const substitutes = new Map([...tied].map(([name, target]) => [target, name]));
  for (const [name, shape] of expected) {
    const source = tensors.has(name) ? name : (substitutes.get(name) ?? name);
    const tensor = tensors.get(source);
    taken.add(source);
    if (tensor === undefined) {
      faults.push({ kind: 'missing', name, text: brief(name) });
      continue;
    }
    const unfit = whyUnfit(tensor, shape);
    if (unfit === undefined) used.set(name, tensor);
    else faults.push({ kind: 'unfit', name, text: `${brief(name)}${fileOf(tensor)} ${unfit}` });
  }
  const spare = [...tensors.keys()].filter((name) => !taken.has(name));
  for (const name of [...spare.filter((each) => !tied.has(each)), ...unexpected]) {
    const tensor = tensors.get(name);
    const file = tensor === undefined ? '' : fileOf(tensor);
    faults.push({ kind: 'unexpected', name, text: `${brief(name)}${file}` });
  }
  const refused = faults.filter(({ name }) => !matchesAny(allow, name));
  if (refused.length > 0) throw new TensorsError(where, refused);
  const named = (wanted: (fault: TensorFault) => boolean): string[] =>
    faults.filter(wanted).map(({ name }) => name);
  return {
    tensors: used,
    missing: named(({ kind }) => kind !== 'unexpected'),
    unused: [
      ...spare.filter((name) => tied.has(name)),
      ...named(({ kind }) => kind === 'unexpected'),
    ],
  };
}

function whyUnfit({ shape, dtype }: StoredTensor, expected: readonly number[]): string | undefined {
  if (shape.length !== expected.length || shape.some((size, axis) => size !== expected[axis])) {
    const hint = elementCount(shape) === 0 ? ', a placeholder of ZeRO-3' : '';
    return `has the shape [${shape.join(', ')}]${hint}, expected [${expected.join(', ')}]`;
  }
  return FLOATING.has(dtype) ? undefined : `has the type ${dtype}`;
}
