/**
 * How long a host takes to give an operator to the card. Fitted to the updates of one H200's machine that it held up (2026-11-29-plan-warm-h200.md);
 * others of the kind took 0.9 to 1.8 times as long.
 */
export const HOST = {
  /** Seconds of a call from JavaScript; a count of all calls of a step on another machine gave 13 us (2026-11-29-train-h200.md). */
  call: 14e-6,
  /** Seconds of a node of a graph, by one row alone, `lora on tower and decoder`. */
  node: 24e-6,
  /** Seconds of a kernel; the driver's part of it was 10 us. */
  launch: 11e-6,
  /** Seconds of an update beside those: its batches placed, its numbers read. */
  update: 1.5e-3,
  /** Bytes a second that all its cores read and write together, for an optimizer that lies there: by one row alone, `full offload optimizer`. */
  memory: 136e9,
} as const;
