/** Values of options that several commands share. */
import { InvalidArgumentError } from 'commander';

import { EnvironmentError, UsageError } from '../base/errors.js';
import { cudaAvailable, type Device, type DType } from '../torch/index.js';

/** For options that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** @throws InvalidArgumentError for what is no finite number */
export function numberValue(text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!Number.isFinite(value)) throw new InvalidArgumentError('It is not a number.');
  return value;
}

/** @throws InvalidArgumentError for what is no whole number from 1 */
export function countValue(text: string): number {
  const value = numberValue(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('It is not a whole number from 1.');
  }
  return value;
}

const DTYPES: Readonly<Record<string, DType>> = {
  bf16: 'bfloat16',
  bfloat16: 'bfloat16',
  fp16: 'float16',
  float16: 'float16',
  fp32: 'float32',
  float32: 'float32',
};

/** @throws InvalidArgumentError for another type than models are computed in */
export function dtypeValue(text: string): DType {
  const dtype = Object.hasOwn(DTYPES, text) ? DTYPES[text] : undefined;
  if (dtype === undefined) throw new InvalidArgumentError('Use bf16, fp16 or fp32.');
  return dtype;
}

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
