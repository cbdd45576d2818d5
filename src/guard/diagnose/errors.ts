/** Errors that are a cause by themselves: of a record or a model that is refused, or of a run that they end. */

import { PatinaError } from '../../base/errors.js';
import type { DiagnosisEvent } from '../../train/index.js';
import type { Cause } from '../causes.js';
import { pageOf } from './advice.js';

/** Of files of weights that are damaged, or not those of the model. */
const LOST = 'weights-not-loaded';

const CAUSES_OF_ERRORS: readonly (readonly [codes: RegExp, Cause])[] = [
  [/^E_COLLECTIVE_ORDER$/, 'collective-mismatch'],
  [/^E_VOCABULARY$/, 'id-out-of-vocabulary'],
  [/^E_RECORD_TURNS$|^E_NO_SUPERVISION$/, 'no-supervision'],
  [/^E_RECORD_IMAGES$|^E_IMAGE_UNWANTED$|^E_IMAGE_CUT$|^E_BATCH_IMAGES$/, 'image-token-mismatch'],
  [/^E_IMAGE_/, 'broken-image'],
  [/^E_OVERLONG$|^E_ANSWER_CUT$/, 'answer-truncated'],
  [/^E_TEMPLATE_|^E_RECORD_ROLE$/, 'template-mismatch'],
  [/^E_NON_FINITE_WEIGHTS$/, 'weights-not-finite'],
  [/^E_QUANTISED$/, 'quantised-base'],
  [/^E_(TENSORS|TENSOR_BYTES|TIED|SAFETENSORS|WEIGHT_INDEX|NO_WEIGHTS|TRUNCATED)$/, LOST],
  [/^E_(ZIP|PICKLE)/, LOST],
];

/** @param code of an error, if it has one */
export function causeOfError(code: unknown): Cause | undefined {
  if (typeof code !== 'string') return undefined;
  return CAUSES_OF_ERRORS.find(([codes]) => codes.test(code))?.[1];
}

/**
 * What an error that ends a run comes of; `null` where it does not say.
 *
 * @param update that it kept from being made; 0 before the first
 */
export function explainError(error: unknown, update: number): DiagnosisEvent | null {
  if (!(error instanceof PatinaError)) return null;
  const { code, message, hint } = error;
  const cause = causeOfError(code);
  if (cause === undefined) return null;
  return {
    ...{ type: 'diagnosis', update, cause, confidence: 0.9, message },
    ...{ evidence: [`the run ended with ${code}`], fix: hint },
    ...{ records: [], module: null, rank: null, page: pageOf(cause) },
  };
}
