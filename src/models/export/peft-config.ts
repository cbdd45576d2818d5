/** What PEFT must be told of adapters from any layout, so that one of its own holds them. */
import { DataError } from '../../base/errors.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { moduleOf, partOf } from '../../formats/layouts/rename.js';
import { LLAVA_PREFIXES, type Prefixes } from '../../formats/layouts/tables.js';
import type { StoredTensor } from '../../formats/stored.js';
import type { AssembledAdapter } from '../load/assemble.js';
import { adaptedLayers } from '../load/attach-adapters.js';
import { adapterJson } from './adapter-json.js';
import type { Json } from './model-json.js';

interface PeftOptions {
  own?: Prefixes;
  base?: string | null;
  /** Whether saved embeddings are the head too. @default false */
  tied?: boolean;
}

/**
 * PEFT's settings for these tensors.
 *
 * @throws DataError `E_ADAPTER_FORM` where one adapter cannot say it
 */
export function peftConfig(
  adapters: readonly AssembledAdapter[],
  tensors: ReadonlyMap<string, StoredTensor>,
  { own = LLAVA_PREFIXES, base = null, tied = false }: PeftOptions = {},
): Json {
  const forms = new Set(adapters.map(({ config: { dora, rsLora } }) => `${dora} ${rsLora}`));
  if (forms.size > 1) {
    throw new DataError(
      'One PEFT adapter cannot hold adapters of different forms (DoRA, rsLoRA).',
      { code: 'E_ADAPTER_FORM', hint: 'Merge one of them into the model first (--merge).' },
    );
  }
  const layers = adapters.flatMap(adaptedLayers);
  const adapted = new Set(layers.map(({ path }) => path));
  const saved = [...tensors.keys()].filter(
    (name) => !isAdapterTensor(name) && !adapted.has(moduleOf(name)),
  );
  const { dropout, dora, rsLora } = adapters[0]!.config;
  return adapterJson({
    ...{ base, dropout, dora, rsLora, tied },
    layers,
    saved: [...new Set(saved.map((name) => savedModule(name, own)))],
  });
}

/** The module that is saved as a whole when this tensor of it trained. */
function savedModule(name: string, own: Prefixes): string {
  const part = partOf(name, own);
  if (part === 'projector' || part === 'head')
    return own[part]!.replace(/\.$/, '').replace(/^model\./, '');
  return moduleOf(name);
}
