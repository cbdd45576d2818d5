/** The state of the loss scale as it was before an update, for one that runs again; nothing where losses are not scaled. */

import type { LossScale } from '../../optim/index.js';
import { noGrad, type Tensor } from '../../torch/index.js';

export class ScaleCopy implements Disposable {
  private readonly copies: readonly Tensor[];

  constructor(private readonly lossScale: LossScale | undefined) {
    this.copies = noGrad(() => this.state.map((each) => each.clone().keep()));
  }

  private get state(): readonly Tensor[] {
    return [...(this.lossScale?.state().values() ?? [])];
  }

  putBack(): void {
    noGrad(() => this.state.forEach((each, i) => each.copy_(this.copies[i]!)));
  }

  [Symbol.dispose](): void {
    for (const each of this.copies) each.dispose();
  }
}
