/**
 * The gate in front of the optimizer: an update whose gradient is not finite is left out, decided on the device.
 *
 * A gate that holds stays shut after a bad update until the host opens it. The host learns of it only after later updates were
 * given to the device; shut, they change nothing, so that a replay finds the very weights of the bad update.
 */

import { full, noGrad, scope, type Device, type Tensor } from '../torch/index.js';

export interface GateOptions {
  /** Stay shut after a bad update until `open`. @default false */
  holds?: boolean;
}

export class Gate {
  /** 1 while shut, else 0; a device scalar, fp32. `null` where the gate does not hold. */
  private readonly shut: Tensor | null;

  constructor(device: Device, { holds = false }: GateOptions = {}) {
    this.shut = holds ? full([], 0, { dtype: 'float32', device }).keep() : null;
  }

  /** What the optimizer is told: `foundInf`, or 1 while the gate is shut; a device scalar, fp32. */
  flag(foundInf: Tensor): Tensor {
    const { shut } = this;
    return shut === null ? foundInf : noGrad(() => foundInf.maximum(shut));
  }

  /** Takes in the flags of a whole update (any shape). */
  take(flags: Tensor): void {
    const { shut } = this;
    if (shut === null || flags.numel === 0) return;
    noGrad(() => scope(() => void shut.copy_(shut.maximum(flags.max()))));
  }

  /** Lets updates through again. */
  open(): void {
    noGrad(() => this.shut?.zero_());
  }

  dispose(): void {
    this.shut?.dispose();
  }
}
