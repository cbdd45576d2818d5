/** Low-rank adapters on a model that is still on meta, as the names and shapes of their tensors tell. */
import { DataError } from '../../base/errors.js';
import { Linear, type Module } from '../../nn/index.js';
import type { DType } from '../../torch/index.js';
import { alphaOf } from './adapter-config.js';
import type { AssembledAdapter } from './assemble.js';

const LORA_A = /^(.+)\.lora_A\.weight$/;

/** A linear layer that an adapter changes. */
export interface AdaptedLayer {
  /** Name of the module. */
  readonly path: string;
  readonly rank: number;
  readonly alpha: number;
}

/** The linear layers that an adapter changes. @throws ConfigError `E_CONFIG` for a pattern that is no expression */
export function adaptedLayers({ config, file, tensors }: AssembledAdapter): AdaptedLayer[] {
  return [...tensors].flatMap(([name, { shape }]) => {
    const path = LORA_A.exec(name)?.[1];
    if (path === undefined) return [];
    return [{ path, rank: shape[0] ?? 0, alpha: alphaOf(config, path, file) }];
  });
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
  const modules = new Map(model.namedModules());
  for (const adapter of adapters) {
    const { config, file } = adapter;
    for (const { path, rank, alpha } of adaptedLayers(adapter)) {
      const module = modules.get(path);
      if (!(module instanceof Linear)) {
        throw unfit(file, `${path} is no linear layer of this model`, 'Choose the adapter of it.');
      }
      if (module.adapter !== undefined) {
        const hint = 'Merge one of the two into the model first.';
        throw unfit(file, `${path} has an adapter already`, hint);
      }
      module.attachAdapter({
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
