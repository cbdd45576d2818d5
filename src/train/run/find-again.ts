/** What the recipe of a run names, found again where it lies now, and as it was when the run began. */

import type { HubEvent } from '../../base/hub/resolve.js';
import { resolveModel } from '../../base/hub/resolve.js';
import type { Recipe } from '../../config/index.js';
import { locate, readProvenance } from '../../models/index.js';
import { type FoundFields, MODEL_FIELDS, type ModelField } from '../prepare/open-model.js';

export interface FindAgainOptions {
  /** @default false */
  readonly changedBase?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onDownload?: ((event: HubEvent) => void) | undefined;
}

/**
 * What was changed in the recipe since is left to its name.
 *
 * @param run folder of the run
 * @throws DataError `E_BASE_MISSING`, `E_BASE_CHANGED`
 */
export async function findAgain(
  run: string,
  { model }: Pick<Recipe, 'model'>,
  { changedBase, signal, onDownload }: FindAgainOptions = {},
): Promise<FoundFields> {
  const { began = {} } = (await readProvenance(run)) ?? {};
  const found: Partial<Record<ModelField, string>> = {};
  const onNotice = (message: string): void => onDownload?.({ type: 'notice', message });
  for (const field of MODEL_FIELDS) {
    const recorded = began[field];
    if (recorded === undefined) continue;
    if (model[field] !== recorded.name) {
      onNotice(`model.${field}: ${model[field] ?? 'nothing'} in place of ${recorded.name}.`);
      continue;
    }
    found[field] = await locate(recorded, {
      folder: run,
      what: `another (--set model.${field}=...)`,
      changed: changedBase,
      resolve: (name) => resolveModel(name, { signal, onDownload }),
      ...{ onNotice, signal },
    });
  }
  return found;
}
