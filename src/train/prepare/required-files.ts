/** What a recipe names on this disk, looked for before minutes go by over downloads and weights. */

import { existsSync } from 'node:fs';
import { DataError, PatinaError, UsageError } from '../../base/errors.js';
import { parseSource, type RepositoryKind } from '../../base/hub/source.js';
import type { Recipe } from '../../config/index.js';
import { type FoundFields, MODEL_FIELDS } from './open-model.js';

interface Named {
  /** The field of the recipe. */
  readonly field: string;
  readonly name: string;
  /** `path`: never a name on the hub. */
  readonly kind: RepositoryKind | 'path';
  /** What to do where it is not there. */
  readonly hint?: string | undefined;
  /** Where it can be had, in words. */
  readonly origin?: string | undefined;
}

/**
 * @param found where a run that is resumed has found again what it names
 * @throws DataError `E_PATH_MISSING` that names every field whose file or folder is not there; UsageError `E_HUB_NAME` for what
 *   is neither a path nor a name on the hub
 */
export function requireFiles(recipe: Recipe, found: FoundFields = {}): void {
  const faults = [...namedIn(recipe, found)].flatMap((named) => {
    const error = faultOf(named);
    return error === undefined ? [] : [{ ...named, error }];
  });
  const first = faults.find(({ error }) => error.code === 'E_PATH_MISSING') ?? faults[0];
  if (first === undefined) return;
  const lines = faults.map(
    ({ field, error, origin }) =>
      `${field}: ${error.message}${origin === undefined ? '' : `\n  to be had: ${origin}`}`,
  );
  const { error, hint = error.hint } = first;
  const Kind = error instanceof UsageError ? UsageError : DataError;
  throw new Kind(lines.join('\n'), { code: error.code, hint, cause: error });
}

const PROJECTOR =
  'Train the first stage (its recipe ends in -pretrain) and name its run: `--set model.projector=runs/NAME`.';
const DATA = 'Put the data there, or train on your own: `--data FILE`.';

function* namedIn(
  { model, data, validation, probes }: Recipe,
  found: FoundFields,
): Generator<Named> {
  for (const key of MODEL_FIELDS) {
    const name = found[key] ?? model[key];
    const hint = key === 'projector' ? PROJECTOR : undefined;
    if (name !== undefined) yield { field: `model.${key}`, name, kind: 'model', hint };
  }
  for (const [section, hint, sources] of [
    ['data', DATA, data.sources],
    ['validation', undefined, validation?.sources ?? []],
  ] as const) {
    for (const [i, { path, images, origin }] of sources.entries()) {
      const field = `${section}.sources.${i}`;
      yield { field: `${field}.path`, name: path, kind: 'dataset', hint, origin };
      if (images !== undefined) yield { field: `${field}.images`, name: images, kind: 'path' };
    }
  }
  for (const [i, { data, images }] of (validation?.tasks ?? []).entries()) {
    const field = `validation.tasks.${i}`;
    yield { field: `${field}.data`, name: data, kind: 'path' };
    if (images !== undefined) yield { field: `${field}.images`, name: images, kind: 'path' };
  }
  for (const [i, { images }] of probes.questions.entries()) {
    for (const name of images) {
      yield { field: `probes.questions.${i}.images`, name, kind: 'path' };
    }
  }
}

function faultOf({ name, kind }: Named): PatinaError | undefined {
  if (kind === 'path') {
    if (existsSync(name)) return undefined;
    return new DataError(`No such file or folder: ${name}`, {
      code: 'E_PATH_MISSING',
      hint: 'Check the path; in a recipe it starts from the recipe’s own folder.',
    });
  }
  try {
    parseSource(name, { kind });
    return undefined;
  } catch (error) {
    if (error instanceof PatinaError) return error;
    throw error;
  }
}
