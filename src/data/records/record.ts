/** A training record after it has been read: a conversation and its images. */
import { shortText } from '../../base/short-text.js';
import type { Message } from '../../text/message.js';

/** Where an image comes from: a path or URL as the record names it, or its bytes (Parquet). */
export type ImageSource =
  string | { readonly bytes: Uint8Array; readonly path: string | undefined };

export type RecordId = string | number | null;

/** An id in a message. */
export function shownId(id: RecordId): string {
  return JSON.stringify(typeof id === 'string' ? shortText(id, 80) : id);
}

export interface ChatRecord {
  /** As it stands in the file, or its JSON text where no string or number is that; null where there is none. */
  readonly id: RecordId;
  /** Images in the order of their places in the messages; parts of messages name them by position. */
  readonly images: readonly ImageSource[];
  readonly messages: readonly Message[];
  /** @default none */
  readonly warnings?: readonly RecordWarning[];
}

/** What was not taken as it stands in a record. */
export type RecordWarning = 'two-systems' | 'flags-unheeded';

/** Why a record cannot be used; plain data, since it travels between threads. */
export interface RecordProblem {
  /** Stable, as in errors: `E_RECORD_IMAGES`. */
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}
