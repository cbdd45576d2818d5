/** Which bytes of something large stand for all of it, where it has to be known again quickly. */

/** Up to so many bytes nothing is left out. */
export const WHOLE_BYTES = 64 * 2 ** 20;
/** Bytes of a sample, and from the beginning of one to that of the next. */
const SAMPLE = 4096;
const STEP = 8 * 2 ** 20;

export interface ByteSpan {
  readonly start: number;
  readonly length: number;
}

/** All of it in pieces; or else its beginning, its end, and what lies regularly between them. */
export function* spansOf(bytes: number, isWhole: boolean): Generator<ByteSpan> {
  for (let start = 0; start < bytes; start += STEP) {
    yield { start, length: Math.min(isWhole ? STEP : SAMPLE, bytes - start) };
  }
  const start = Math.max(0, bytes - SAMPLE);
  if (!isWhole && start > 0) yield { start, length: bytes - start };
}
