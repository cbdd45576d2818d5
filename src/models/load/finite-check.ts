/** Looks for NaN and infinities in many tensors on their device; the host waits once, at the end. */
import { DataError } from '../../base/errors.js';
import { matchesAny } from '../../base/name-pattern.js';
import { listNames } from '../../formats/layouts/list-names.js';
import { noGrad, scope, stack, type Tensor } from '../../torch/index.js';

export class FiniteCheck {
  private readonly names: string[] = [];
  private readonly extremes: Tensor[] = [];

  add(name: string, tensor: Tensor): void {
    if (tensor.numel === 0) return;
    // Both carry NaN on.
    const both = noGrad(() =>
      scope(() => [tensor.amax([]), tensor.amin([])].map((t) => t.to('float32').keep())),
    );
    this.names.push(name);
    this.extremes.push(...both);
  }

  check(source: string, allow: readonly string[]): void {
    if (this.extremes.length === 0) return;
    const values = scope(() => stack(this.extremes).toTypedArray() as Float32Array);
    const faulty = this.names.filter(
      (name, i) =>
        !(Number.isFinite(values[2 * i]) && Number.isFinite(values[2 * i + 1])) &&
        !matchesAny(allow, name),
    );
    if (faulty.length === 0) return;
    throw new DataError(
      `${source}: ${faulty.length === 1 ? 'a tensor holds' : `${faulty.length} tensors hold`} NaN or infinity: ${listNames(faulty)}.`,
      {
        code: 'E_NON_FINITE_WEIGHTS',
        hint: 'Use weights from before they broke, a type of larger range, or allow these tensors by name.',
      },
    );
  }

  dispose(): void {
    for (const tensor of this.extremes) tensor.dispose();
  }
}
