/**
 * How long a host takes to give an operator to the card. Fitted, all at once, to the seconds of 56 configurations on one machine (an H200's, 16 CPU
 * cores; 2026-11-29-plan-h200.md), of which a dozen were held up by it: other hosts are faster or slower.
 */
export const HOST = {
  /** Seconds of a call from JavaScript: 25 us for one that launches a kernel; another machine had 13 for the mean of all calls (2026-11-29-train-h200.md). */
  call: 18e-6,
  /** Seconds of a kernel, and of a node of a graph, which calls from C++. */
  launch: 7e-6,
  /** Seconds of an update beside those: its batches placed, its numbers read. */
  update: 2e-3,
  /** Bytes a second that all its cores read and write together, for an optimizer that lies there: by one row alone, `full offload optimizer`. */
  memory: 136e9,
} as const;
