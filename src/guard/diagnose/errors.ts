/** Errors that end a run and are a cause by themselves. */

import type { Cause } from '../causes.js';

export const CAUSES_OF_ERRORS: Readonly<Record<string, Cause>> = {
  E_COLLECTIVE: 'collective-mismatch',
  E_VOCABULARY: 'id-out-of-vocabulary',
  E_RECORD_IMAGES: 'image-token-mismatch',
  E_RECORD_TURNS: 'empty-answer',
  E_NO_SUPERVISION: 'no-supervision',
  E_IMAGE_BROKEN: 'broken-image',
  E_IMAGE_TRUNCATED: 'broken-image',
};
