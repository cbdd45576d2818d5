/** Errors that are a cause by themselves: of a record that is refused, or of a run that they end. */

import type { Cause } from '../causes.js';

const CAUSES_OF_ERRORS: readonly (readonly [codes: RegExp, Cause])[] = [
  [/^E_COLLECTIVE_ORDER$/, 'collective-mismatch'],
  [/^E_VOCABULARY$/, 'id-out-of-vocabulary'],
  [/^E_RECORD_TURNS$|^E_NO_SUPERVISION$/, 'no-supervision'],
  [/^E_RECORD_IMAGES$|^E_IMAGE_UNWANTED$|^E_IMAGE_CUT$|^E_BATCH_IMAGES$/, 'image-token-mismatch'],
  [/^E_IMAGE_/, 'broken-image'],
  [/^E_OVERLONG$/, 'answer-truncated'],
  [/^E_TEMPLATE_|^E_RECORD_ROLE$/, 'template-mismatch'],
];

/** @param code of an error, if it has one */
export function causeOfError(code: unknown): Cause | undefined {
  if (typeof code !== 'string') return undefined;
  return CAUSES_OF_ERRORS.find(([codes]) => codes.test(code))?.[1];
}
