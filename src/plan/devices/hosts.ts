/**
 * How long a host takes to give an operator to the card. Fitted, all at once, to the seconds of 56 configurations on one machine (an H200's, 16 CPU
 * cores; 2026-11-29-plan-h200.md), of which a dozen were held up by it: other hosts are faster or slower.
 */

export interface Host {
  /** Seconds of a call from JavaScript. */
  readonly call: number;
  /** Seconds of a kernel, and of a node of a graph, which calls from C++. */
  readonly launch: number;
  /** Seconds of an update beside those: its batches placed, its numbers read. */
  readonly update: number;
  /** Bytes a second that all its cores read and write together, for an optimizer that lies there. */
  readonly memory: number;
  /** By what share calls and launches take longer in a process that has only begun. */
  readonly cold: number;
  /** Calls after which 1/e of that is left. */
  readonly warming: number;
}

/** In the middle of a run: 25 us for a call that launches a kernel; another machine had 13 for the mean of all calls (2026-11-29-train-h200.md). */
export const STEADY: Host = {
  call: 18e-6,
  launch: 7e-6,
  update: 2e-3,
  memory: 136e9, // by one row alone, `full offload optimizer`
  cold: 0,
  warming: 50e3,
};

/**
 * In the second and third update of a process, where `bench/gpu/plan.sh` measures: rows that the host holds up took twice as long there, but for the one that
 * wrote an answer of 512 tokens before, in 140,000 calls.
 */
export const FRESH: Host = { ...STEADY, cold: 1 };
