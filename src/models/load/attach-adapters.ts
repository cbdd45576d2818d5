/** Low-rank adapters on a model that is still on meta, as the names and shapes of their tensors tell. */
import { DataError } from '../../base/errors.js';
import { unwrapAdapterName } from '../../formats/layouts/adapter-names.js';
import { linearsOf, type Module } from '../../nn/index.js';
import type { DType } from '../../torch/index.js';
import { alphaOf, checkRank } from './adapter-config.js';
import type { AssembledAdapter } from './assemble.js';

const LORA_A = /^(.+)\.lora_A\.weight$/;

/** A linear layer that an adapter changes. */
export interface AdaptedLayer {
  /** Name of the module. */
  readonly path: string;
  readonly rank: number;
  readonly alpha: number;
}

/** The linear layers that an adapter changes. @throws ConfigError `E_CONFIG` for a rank or a pattern that cannot be */
export function adaptedLayers(adapter: AssembledAdapter): AdaptedLayer[] {
  return [...adapter.tensors.keys()].flatMap((name) => {
    const path = LORA_A.exec(name)?.[1];
    return path === undefined ? [] : [adaptedLayer(adapter, path)!];
  });
}

/** How an adapter changes the layer `path`; undefined where it does not. @throws ConfigError `E_CONFIG` */
export function adaptedLayer(
  { config, file, tensors }: AssembledAdapter,
  path: string,
): AdaptedLayer | undefined {
  const stored = tensors.get(`${path}.lora_A.weight`);
  if (stored === undefined) return undefined;
  // Patterns speak of the model that was adapted, which need not call its layers as Patina does.
  const adapted = LORA_A.exec(unwrapAdapterName(stored.name))![1]!;
  const rank = stored.shape[0] ?? 0;
  checkRank(config, adapted, rank, file);
  return { path, rank, alpha: alphaOf(config, adapted, file) };
}

/**
 * Puts an adapter beside every linear layer for which there is one.
 *
 * @throws DataError `E_ADAPTER` for a tensor that belongs to no linear layer, or to one that has an adapter already
 */
export function attachAdapters(
  model: Module,
  adapters: readonly AssembledAdapter[],
  dtype: DType,
): void {
  // An adapter has the name of its layer, so only layers are looked up.
  const layers = new Map(linearsOf(model));
  for (const adapter of adapters) {
    const { config, file } = adapter;
    for (const { path, rank, alpha } of adaptedLayers(adapter)) {
      const layer = layers.get(path);
      if (layer === undefined) {
        throw unfit(file, `${path} is no linear layer of this model`, 'Choose the adapter of it.');
      }
      if (layer.adapter !== undefined) {
        const hint = 'Merge one of the two into the model first.';
        throw unfit(file, `${path} has an adapter already`, hint);
      }
      layer.attachAdapter({
        rank,
        alpha,
        dropout: config.dropout,
        rsLora: config.rsLora,
        dora: config.dora,
        dtype,
      });
    }
  }
}

function unfit(file: string, reason: string, hint: string): DataError {
  return new DataError(`${file}: ${reason}.`, { code: 'E_ADAPTER', hint });
}
