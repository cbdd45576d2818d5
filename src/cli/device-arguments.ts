/** Where a command computes. Apart from the other arguments, since asking for a GPU loads libtorch. */
import { EnvironmentError, UsageError } from '../base/errors.js';
import { cudaAvailable, type Device } from '../torch/index.js';

/**
 * The device that a command runs on: the first GPU where there is one, unless it is named.
 *
 * @throws UsageError `E_DEVICE` for a name that is none, EnvironmentError `E_NO_CUDA` where there is no GPU to use
 */
export function chooseDevice(name: string | undefined): Device {
  if (name !== undefined && !/^(cpu|cuda(:\d+)?)$/.test(name)) {
    throw new UsageError(`There is no device "${name}".`, {
      code: 'E_DEVICE',
      hint: 'Use cpu, cuda, or cuda:1 for the second GPU.',
    });
  }
  if (name === 'cpu') return 'cpu';
  if (cudaAvailable()) return (name ?? 'cuda:0') as Device;
  if (name === undefined) return 'cpu';
  throw new EnvironmentError(`There is no GPU to use as ${name}.`, {
    code: 'E_NO_CUDA',
    hint: 'Use --device cpu; `patina doctor` tells what is wrong with a GPU.',
  });
}
