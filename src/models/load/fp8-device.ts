/** Which devices multiply in fp8. */
import { EnvironmentError } from '../../base/errors.js';
import type { ChosenDevice } from '../../torch/index.js';

/** From Ada and Hopper on; the CPU computes it in other numbers. */
const FP8_CAPABILITY = 8.9;

/** @throws EnvironmentError `E_FP8_DEVICE` */
export function requireFp8({ name, capability }: Pick<ChosenDevice, 'name' | 'capability'>): void {
  if (capability === null || capability >= FP8_CAPABILITY) return;
  throw new EnvironmentError(
    `Frozen weights are to be in fp8, and ${name} has no products in fp8 (compute capability ${capability}, below ${FP8_CAPABILITY}).`,
    {
      code: 'E_FP8_DEVICE',
      hint: 'Leave `base` out, for weights in bf16, or set it to `nf4`; a checkpoint that was trained so is written as dense weights by `patina export --merge`.',
    },
  );
}
