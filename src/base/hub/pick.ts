/**
 * Which files of a repository are needed: for a model its configuration, tokenizer and one form of its weights, for a
 * dataset its tables and pictures. Never `original/`, Flax, TensorFlow, ONNX or the state of somebody's training run.
 */
import { DataError } from '../errors.js';
import type { HubFile } from './client.js';
import type { Repository, RepositoryKind } from './source.js';

/** Folders with other forms of the same weights, or with a training run's leftovers. */
const OTHER_FOLDERS =
  /(^|\/)(original|onnx|openvino|coreml|tflite|flax|tf|saved_model|runs|logs|checkpoint-\d+|global_step\d+|\.[^/]*)\//i;
const TRAINING_STATE =
  /(^|\/)(training_args|optimizer|scheduler|scaler|rng_state[^/]*)\.(bin|pth?)$/i;
const TEXT =
  /(^|\/)((licen[cs]e|notice|use_policy)[^/]*|[^/]+\.(json|txt|jinja|model|tiktoken|md))$/i;
const SAFE_WEIGHTS = /\.safetensors$/i;
const PICKLED_WEIGHTS = /\.(bin|pth?)$/i;
const WEIGHT_INDEX = /\.(safetensors|bin)\.index\.json$/i;
const TABLES_AND_PICTURES = /\.(parquet|jsonl?|csv|jpe?g|png|webp|gif|tiff?|bmp)$/i;

/**
 * The paths to download out of all `paths` of a repository.
 *
 * Of the same weights in two forms (`model-*.safetensors` and `pytorch_model-*.bin`, `adapter_model.*`) the
 * safetensors are taken; pickled weights that have no such twin (`mm_projector.bin`, a `.pth`) are kept.
 */
export function pickFiles(paths: readonly string[], kind: RepositoryKind): string[] {
  const ours = paths.filter((path) => !OTHER_FOLDERS.test(path) && !/(^|\/)\./.test(path));
  if (kind === 'dataset') {
    return ours.filter((path) => TABLES_AND_PICTURES.test(path) || /\.(md|txt)$/i.test(path));
  }
  const safe = new Set(ours.filter((path) => SAFE_WEIGHTS.test(path)).map(weightsName));
  return ours.filter((path) => {
    if (TRAINING_STATE.test(path)) return false;
    if (SAFE_WEIGHTS.test(path)) return !isConsolidatedTwin(path, safe);
    if (PICKLED_WEIGHTS.test(path)) return !safe.has(weightsName(path));
    if (/\.bin\.index\.json$/i.test(path)) return !safe.has(weightsName(path));
    return TEXT.test(path);
  });
}

/** The paths that match any of `patterns`: `*` and `?` stay within a folder, `**` crosses folders. */
export function matchFiles(paths: readonly string[], patterns: readonly string[]): string[] {
  const expressions = patterns.map(expression);
  return paths.filter((path) => expressions.some((pattern) => pattern.test(path)));
}

/**
 * The files of a listing to fetch: those that match `patterns`, or Patina's choice.
 *
 * @throws DataError E_HUB_FILE for a pattern that matches nothing, or when nothing is left.
 */
export function chooseFiles(
  tree: readonly HubFile[],
  { kind, name }: Repository,
  patterns: readonly string[] | undefined,
): HubFile[] {
  const paths = tree.map(({ path }) => path);
  const unmatched = patterns?.find((pattern) => matchFiles(paths, [pattern]).length === 0);
  const chosen = new Set(
    patterns === undefined ? pickFiles(paths, kind) : matchFiles(paths, patterns),
  );
  if (unmatched !== undefined || chosen.size === 0) {
    const what = unmatched === undefined ? 'no file that Patina can use' : `no file ${unmatched}`;
    throw new DataError(`The ${kind} ${name} has ${what}; it holds ${sample(paths)}.`, {
      code: 'E_HUB_FILE',
      hint: 'Check the name, the revision and the file patterns.',
    });
  }
  return tree.filter(({ path }) => chosen.has(path));
}

/** Whether a file holds weights or their index: without it a cached model is incomplete. */
export function isWeights(path: string): boolean {
  return SAFE_WEIGHTS.test(path) || PICKLED_WEIGHTS.test(path) || WEIGHT_INDEX.test(path);
}

/** The first few of many paths, for a message. */
export function sample(paths: readonly string[]): string {
  const more = paths.length > 5 ? ` and ${paths.length - 5} more` : '';
  return (paths.slice(0, 5).join(', ') || 'nothing') + more;
}

/** `folder/name` that both forms of the same weights share, whatever their shards. */
function weightsName(path: string): string {
  return path
    .replace(/\.index\.json$/i, '')
    .replace(/\.[^./]+$/, '')
    .replace(/-\d{5}-of-\d{5}$/, '')
    .replace(/(^|\/)pytorch_model$/, '$1model');
}

/** Mistral's `consolidated.safetensors` repeats the `model-*.safetensors` beside it in other names. */
function isConsolidatedTwin(path: string, safe: ReadonlySet<string>): boolean {
  const match = /^(.*\/)?consolidated(\.\d+)?\.safetensors$/i.exec(path);
  return match !== null && safe.has(`${match[1] ?? ''}model`);
}

function expression(pattern: string): RegExp {
  const source = pattern.replace(/\*\*\/?|[*?]|[\\^$.|+()[\]{}]/g, (token) => {
    if (token.startsWith('**')) return token.endsWith('/') ? '(?:.*/)?' : '.*';
    if (token === '*') return '[^/]*';
    return token === '?' ? '[^/]' : `\\${token}`;
  });
  return new RegExp(`^${source}$`);
}
