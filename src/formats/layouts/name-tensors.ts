/** Which layout a set of tensors is in, and the set under Patina's own names. */
import { DataError } from '../../base/errors.js';
import type { StoredTensor } from '../stored.js';
import { listNames } from './list-names.js';
import { unwrapAdapterName } from './adapter-names.js';
import { toOwnName } from './rename.js';
import { LAYOUTS, LLAVA_PREFIXES, type Layout, type LayoutName, type Prefixes } from './tables.js';

/** Tensors under Patina's names, and those that have none. */
export interface NamedTensors {
  readonly layout: LayoutName;
  /** By Patina's own names. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Known and not needed, by stored name, with the reason. */
  readonly ignored: ReadonlyMap<string, string>;
  /** Unknown to the layout, by stored name. */
  readonly unexpected: readonly string[];
}

export interface NameOptions {
  /** What messages call the tensors: a path. */
  where: string;
  /** The names to give. @default those of a whole LLaVA */
  own?: Prefixes;
}

/**
 * Finds the layout that explains most of the names, and names the tensors by it.
 *
 * @throws DataError E_LAYOUT when no layout explains any name, E_TENSOR_TWICE when two tensors have one name.
 */
export function nameTensors(
  stored: readonly StoredTensor[],
  { where, own = LLAVA_PREFIXES }: NameOptions,
): NamedTensors {
  const explained = (layout: Layout): number =>
    stored.filter(({ name }) => toOwnName(layout, unwrapAdapterName(name), own) !== undefined)
      .length;
  let best: LayoutName | undefined;
  let most = 0;
  for (const name of Object.keys(LAYOUTS) as LayoutName[]) {
    const count = explained(LAYOUTS[name]);
    if (count > most) [best, most] = [name, count];
  }
  if (best === undefined) {
    throw new DataError(
      `${where} holds no tensors of a LLaVA or of a part of one: ${listNames(stored.map(({ name }) => name))}.`,
      {
        code: 'E_LAYOUT',
        hint: 'Name a LLaVA, a Llama, Mistral, Qwen2 or Qwen3 decoder, a CLIP or SigLIP vision tower, a projector or an adapter.',
      },
    );
  }
  return nameByLayout(stored, best, { where, own });
}

/** Names the tensors by a given layout. */
function nameByLayout(
  stored: readonly StoredTensor[],
  layoutName: LayoutName,
  { where, own = LLAVA_PREFIXES }: NameOptions,
): NamedTensors {
  const layout: Layout = LAYOUTS[layoutName];
  const tensors = new Map<string, StoredTensor>();
  const ignored = new Map<string, string>();
  const unexpected: string[] = [];
  for (const tensor of stored) {
    const plain = unwrapAdapterName(tensor.name);
    const surplus = layout.surplus.find(({ names }) => names.test(plain));
    const name = toOwnName(layout, plain, own);
    if (surplus !== undefined) ignored.set(tensor.name, surplus.why);
    else if (name === undefined) unexpected.push(tensor.name);
    else {
      const twin = tensors.get(name);
      if (twin !== undefined) throw twice(where, name, [twin.name, tensor.name]);
      tensors.set(name, tensor);
    }
  }
  return { layout: layoutName, tensors, ignored, unexpected };
}

function twice(where: string, name: string, stored: readonly string[]): DataError {
  return new DataError(`${where}: ${listNames(stored)} are both ${name}.`, {
    code: 'E_TENSOR_TWICE',
    hint: 'Remove one of them: it is not clear which counts.',
  });
}
