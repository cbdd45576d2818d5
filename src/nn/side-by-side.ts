/** Matrices whose rows follow on each other in one piece of memory, so that products with all of them are one; vectors likewise. */
import { empty, noGrad, scope, sideBySide, type Tensor } from '../torch/index.js';

/** The rows of all of them as one matrix, a view; `null` where they do not lie so. */
export function asOne(matrices: readonly Tensor[]): Tensor | null {
  return matrices.length === 1 ? matrices[0]! : (sideBySide(matrices)[0] ?? null);
}

/**
 * Moves matrices to where they lie side by side, each remaining the tensor that it is. All stay where they do not fit, or where one
 * shares its memory with others, which is how sharding places them.
 */
export function laySideBySide(matrices: readonly Tensor[]): void {
  const [first] = matrices as [Tensor, ...Tensor[]];
  const mayMove = (matrix: Tensor): boolean =>
    fit(first, matrix) &&
    matrix.requiresGrad === first.requiresGrad &&
    matrix.storageBytes === matrix.bytes;
  if (!matrices.every(mayMove)) return;
  noGrad(() =>
    scope(() => {
      const { dtype, device } = first;
      const rows = matrices.reduce((sum, { shape }) => sum + shape[0]!, 0);
      const whole = empty([rows, ...first.shape.slice(1)], { dtype, device });
      const stride = whole.strides[0]!;
      let row = 0;
      for (const matrix of matrices) {
        const { shape } = matrix;
        whole.narrow(0, row, shape[0]!).copy_(matrix);
        matrix.setStorage_(whole, row * stride, shape, whole.strides);
        row += shape[0]!;
      }
    }),
  );
}

function fit(first: Tensor, other: Tensor): boolean {
  return (
    other.shape[1] === first.shape[1] &&
    other.dtype === first.dtype &&
    other.device === first.device &&
    other.isContiguous
  );
}
