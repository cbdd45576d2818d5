/** Bytes of the tensors of a trace, as an allocator counts them that neither rounds nor keeps: the CPU's. Host memory counts too. */

import type { TraceLine } from '../torch/index.js';

export class TensorCount {
  /** Bytes now, and at most since `resetPeak`. */
  now = 0;
  peak = 0;
  private readonly alive = new Map<number, number>();

  take(lines: Iterable<TraceLine>): void {
    for (const line of lines) {
      if (line.kind === 'allocate') {
        this.alive.set(line.block, line.bytes);
        this.now += line.bytes;
        this.peak = Math.max(this.peak, this.now);
      } else if (line.kind === 'free') {
        this.now -= this.alive.get(line.block) ?? 0; // older than the trace
        this.alive.delete(line.block);
      }
    }
  }

  resetPeak(): void {
    this.peak = this.now;
  }
}
