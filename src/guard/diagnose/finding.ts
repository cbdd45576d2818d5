/** What is found about an update. */

import type { GuardedRecord } from '../../train/index.js';
import type { Cause } from '../causes.js';

export interface Finding {
  readonly cause: Cause;
  readonly confidence: number;
  readonly message: string;
  readonly evidence: readonly string[];
  readonly records: readonly GuardedRecord[];
  readonly module: string | null;
  readonly rank: number | null;
}

/** What a rule says of it. */
export type Verdict = Partial<Finding> & Pick<Finding, 'cause' | 'confidence' | 'message'>;
