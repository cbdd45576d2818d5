/** Trainable tensors that never get a gradient: for so many updates exactly 0, though they were reached. */

/** Biases of keys shift all scores of a query alike, which softmax does not see. */
const WITHOUT = /k_proj\.bias$/;

export class GradientWatch {
  /** Updates with a tensor's gradient before it is told. */
  static readonly UPDATES = 10;
  /** Updates in a row with a gradient of 0, by name. */
  private readonly zeros = new Map<string, number>();

  /** @returns what got no gradient but 0 for so long; each is told once */
  add(names: readonly string[], norms: Float32Array): string[] {
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
}
