/** Models that differ in an adapter hold what they have in common once. */
import { moduleOf } from '../../formats/layouts/rename.js';
import { storedParts, type StoredTensor } from '../../formats/stored.js';
import { linearsOf, type Module } from '../../nn/index.js';

/**
 * Gives `model` the weights of another where both have them from the same place of the same file, in the same form and type. Either may
 * go before the other.
 *
 * @returns the names of the tensors that need not be read
 */
export function shareWeights(
  model: Module,
  tensors: ReadonlyMap<string, StoredTensor>,
  beside: { readonly model: Module; readonly stored: ReadonlyMap<string, StoredTensor> },
): Set<string> {
  const own = model.namedParameters();
  const others = beside.model.namedParameters();
  const layers = new Map(linearsOf(model));
  const shared = new Set<string>();
  for (const [name, stored] of tensors) {
    const other = beside.stored.get(name);
    if (other === undefined || !areSame(stored, other)) continue;
    const path = moduleOf(name);
    const leaves = layers.get(path)?.base.form?.leaves;
    const names =
      leaves === undefined || !name.endsWith('.weight')
        ? [name]
        : Object.values(leaves)
            .map((leaf) => `${path}.${leaf}`)
            .filter((leaf) => own.has(leaf));
    const pairs = names.map((each) => [each, own.get(each), others.get(each)] as const);
    if (!pairs.every(([, mine, theirs]) => mine && theirs && mine.dtype === theirs.dtype)) continue;
    for (const [each, , theirs] of pairs) model.load(each, theirs!.detach());
    shared.add(name);
  }
  return shared;
}

function areSame(a: StoredTensor, b: StoredTensor): boolean {
  return identity(a) === identity(b);
}

/** What decides the values of a tensor that is read. */
function identity(stored: StoredTensor): string {
  const { dtype, form } = stored;
  const held = form?.name === 'nf4' && [form.doubleQuantised, form.parts === undefined];
  const parts = storedParts(stored).map(({ file, name, offset, bytes, shape, strides }) => [
    ...[file, name, offset, bytes, shape, strides],
  ]);
  return JSON.stringify([dtype, form?.name, held, parts]);
}
