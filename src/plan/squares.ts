/** How long packed records are, of which a trace tells how many there are and how many tokens they have together. */

import type { RecordShape } from '../train/index.js';
import type { SquaresOf } from './costs.js';

/** By the micro-batches that a ghost run has; sequences of any other batch count as of one length, with which attention has least to do. */
export function squaresOf(batches: readonly (readonly RecordShape[])[]): SquaresOf {
  const known = new Map(
    batches.map((records) => [
      records.reduce((sum, { tokens }) => sum + tokens, 0),
      records.reduce((sum, { tokens }) => sum + tokens ** 2, 0),
    ]),
  );
  return (tokens, sequences) => known.get(tokens) ?? tokens ** 2 / sequences;
}
