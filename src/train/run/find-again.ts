/** What the recipe of a run names, found again where it lies now, and as it was when the run began. */

import { DataError } from '../../base/errors.js';
import type { HubEvent } from '../../base/hub/resolve.js';
import { resolveModel } from '../../base/hub/resolve.js';
import type { Recipe } from '../../config/index.js';
import { difference, locate, readProvenance } from '../../models/index.js';
import { type FoundFields, MODEL_FIELDS, type ModelField } from '../prepare/open-model.js';
import { weightsIn } from './run-weights.js';

export interface FindAgainOptions {
  /** @default false */
  readonly changedBase?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onDownload?: ((event: HubEvent) => void) | undefined;
}

/**
 * What the recipe names otherwise by now has to be the same weights elsewhere: a run goes on with what it has learnt upon.
 *
 * @param run folder of the run
 * @throws DataError `E_BASE_MISSING`, `E_BASE_CHANGED`
 */
export async function findAgain(
  run: string,
  { model }: Pick<Recipe, 'model'>,
  { changedBase = false, signal, onDownload }: FindAgainOptions = {},
): Promise<FoundFields> {
  const provenance = await readProvenance(run);
  if (provenance === undefined) return {};
  const found: Partial<Record<ModelField, string>> = {};
  const onNotice = (message: string): void => onDownload?.({ type: 'notice', message });
  const resolve = (name: string): Promise<string> => resolveModel(name, { signal, onDownload });
  for (const field of MODEL_FIELDS) {
    const recorded = provenance.began[field];
    const name = model[field];
    if (name === recorded?.name) {
      if (recorded === undefined) continue;
      const other = `another (--set model.${field}=...)`;
      const options = { folder: run, other, changed: changedBase, resolve, onNotice, signal };
      found[field] = await locate(recorded, options);
      continue;
    }
    if (name !== undefined && !changedBase) {
      const why =
        recorded === undefined
          ? 'the run was begun without any'
          : await difference(recorded, await resolve(await weightsIn(name)), { signal });
      if (why !== undefined) throw other(`model.${field}: ${name}`, run, why);
    }
    onNotice(`model.${field}: ${name ?? 'nothing'} in place of ${recorded?.name ?? 'nothing'}.`);
  }
  return found;
}

function other(named: string, run: string, why: string): DataError {
  return new DataError(`${named} is not what ${run} has learnt upon: ${why}.`, {
    code: 'E_BASE_CHANGED',
    hint: 'Leave it as it was; or begin a new run from what this one has learnt (`--set model.from=RUN`); or insist (--changed-base).',
  });
}
