/**
 * The weights as they lie in files, streamed through the processor: whether all are finite, none is empty, and the rows of the
 * embeddings and of the head look like those of tokens that were trained. Memory holds one piece of a file at a time.
 */
import { dtypeBytes, elementCount, storedParts, type StoredTensor } from '../../formats/stored.js';
import type { Recipe } from '../../config/index.js';
import { finding, type Finding } from './finding.js';
import { isVisual, type ModelTensor } from './open-hollow.js';
import { rowFindings, Rows, type RowCheckOptions } from './row-check.js';
import { scanTensor } from './scan-tensor.js';

interface WeightsCheckOptions extends RowCheckOptions {
  readonly recipe: Pick<Recipe, 'precision' | 'train'>;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Largest number of fp16. */
const HALF_MAX = 65_504;
/** No block of weights is so large. */
const WILD_SCALE = 1e4;

export async function checkWeights(
  tensors: readonly ModelTensor[],
  { recipe, signal, onProgress, ...rows }: WeightsCheckOptions,
): Promise<Finding[]> {
  const total = tensors.reduce((sum, { stored }) => sum + bytesOf(stored), 0);
  let done = 0;
  const broken: ModelTensor[] = [];
  const scales: ModelTensor[] = [];
  const beyond: ModelTensor[] = [];
  const empty: ModelTensor[] = [];
  const findings: Finding[] = [];
  for (const tensor of tensors) {
    signal?.throwIfAborted();
    const { name, stored } = tensor;
    const isTable = /(^|\.)(embed_tokens|lm_head)\.weight$/.test(name) && stored.shape.length === 2;
    const facts = isTable && stored.form === undefined ? new Rows(stored.shape[0]!) : undefined;
    for (const part of storedParts(stored)) {
      const { largest, finite } = await scanTensor(part, facts, signal);
      const isScale = part !== stored;
      if (!finite) (isScale ? scales : broken).push(tensor);
      else if (isScale && largest > WILD_SCALE) scales.push(tensor);
      else if (recipe.precision.compute === 'fp16' && largest > HALF_MAX) beyond.push(tensor);
      else if (largest === 0 && mayNotBeEmpty(tensor)) empty.push(tensor);
    }
    if (facts !== undefined) findings.push(...rowFindings(tensor, facts, { recipe, ...rows }));
    done += bytesOf(stored);
    onProgress?.(done, total);
  }
  const [visionBeyond, decoderBeyond] = [
    beyond.filter(isVisual),
    beyond.filter((each) => !isVisual(each)),
  ];
  return [
    ...tell(broken, 'weights-not-finite', 'E_NON_FINITE_WEIGHTS', 'NaN or infinity in'),
    ...tell(scales, 'quantised-base', 'scales', 'scales that are not finite, or beyond reason, in'),
    ...tell(decoderBeyond, 'fp16-overflow-decoder', 'weights-beyond', BEYOND),
    ...tell(visionBeyond, 'fp16-overflow-vision', 'weights-beyond', BEYOND),
    ...tell(
      empty,
      'weights-not-loaded',
      'zeros',
      'nothing but 0, as if it had never been filled, in',
    ),
    ...findings,
  ];
}

const BEYOND = `numbers beyond ${HALF_MAX}, which are infinite in fp16, in`;
const OTHER_TYPE = '--set precision.compute=bf16 (fp32 where the device has no bf16)';

const FIXES = {
  'weights-not-finite':
    'Use weights from before they broke: an earlier checkpoint, or the published files, downloaded again.',
  'quantised-base':
    'Quantise the model again, or let Patina do it from the whole weights (`train.decoder.base: nf4`).',
  'weights-not-loaded':
    'Download or copy the files again; a conversion that leaves out tensors fills them so.',
  'fp16-overflow-decoder': OTHER_TYPE,
  'fp16-overflow-vision': OTHER_TYPE,
} as const;

function tell(
  found: readonly ModelTensor[],
  cause: keyof typeof FIXES,
  code: string,
  what: string,
): Finding[] {
  const [first] = found;
  if (first === undefined) return [];
  const names = [...new Set(found.map(({ name }) => name))];
  const more = names.length > 3 ? `, and ${names.length - 3} more` : '';
  const tensors = names.length === 1 ? '1 tensor' : `${names.length} tensors`;
  return [
    finding(cause, {
      ...{ code, source: first.stored.file, count: names.length, fix: FIXES[cause] },
      message: `${what} ${tensors}: ${names.slice(0, 3).join(', ')}${more}`,
    }),
  ];
}

/** Matrices and norms. The second factor of an adapter begins as 0, and what adds to the stream may (LLaMA Pro, ReZero). */
function mayNotBeEmpty({ stored, isAdapter, name }: ModelTensor): boolean {
  if (elementCount(stored.shape) === 0 || isAdapter) return false;
  if (stored.shape.length < 2) return /norm\d?\.weight$/.test(name);
  return !/(o_proj|out_proj|down_proj|fc2)\.weight$/.test(name);
}

function bytesOf(stored: StoredTensor): number {
  return storedParts(stored).reduce(
    (sum, { shape, dtype }) => sum + elementCount(shape) * dtypeBytes(dtype),
    0,
  );
}
