/**
 * Trainable tensors that never get a gradient: for so many updates exactly 0, though they were reached. And runs in which no tensor gets one
 * any more: where weights are so large that activations overflow, norms make 0 of them, and nothing that the loss sees moves with any weight.
 */

/** Biases of keys shift all scores of a query alike, which softmax does not see. */
const WITHOUT = /k_proj\.bias$/;

export class GradientWatch {
  /** Updates with a tensor's gradient, or with none at all, before it is told. */
  static readonly UPDATES = 10;
  /** Updates in a row with a gradient of 0, by name. */
  private readonly zeros = new Map<string, number>();
  private moved = false;
  private still = 0;

  /** @returns what got no gradient but 0 for so long; each is told once */
  add(names: readonly string[], norms: Float32Array): string[] {
    const moves = norms.some((norm) => norm !== 0);
    this.still = moves ? 0 : this.still + 1;
    this.moved ||= moves;
    // Where nothing gets one any more, that of a single tensor says nothing of it.
    if (this.moved && !moves) return [];
    const found: string[] = [];
    names.forEach((name, i) => {
      if (norms[i] !== 0 || WITHOUT.test(name)) {
        // Once is enough.
        this.zeros.set(name, Infinity);
        return;
      }
      const count = (this.zeros.get(name) ?? 0) + 1;
      this.zeros.set(name, count);
      if (count === GradientWatch.UPDATES) found.push(name);
    });
    return found;
  }

  /** Whether nothing has got a gradient for so long, after something had. */
  get stopped(): boolean {
    return this.moved && this.still >= GradientWatch.UPDATES;
  }
}
