/** For this room's tests: PyTorch's stored results (`test/fixtures/nn`), closeness, and gradients by finite differences. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import {
  arange,
  type DType,
  fromBytes,
  fromTypedArray,
  grad,
  noGrad,
  scope,
  type Tensor,
} from '../torch/index.js';
import { DropoutMasks } from './dropout.js';
import { type Module } from './module.js';

/** One stored case of a layer. */
export interface LayerCase<Settings> {
  readonly name: string;
  readonly settings: Settings;
  /** A stored tensor; `leaf` makes it one that gets a gradient. */
  tensor(name: string): Tensor;
  leaf(name: string): Tensor;
}

const DTYPES: Readonly<Record<string, DType>> = { F32: 'float32', I64: 'int64' };

/** The cases of `test/fixtures/nn/<layer>.safetensors`; their settings are what the script that made them noted. */
export function layerCases<Settings = unknown>(layer: string): LayerCase<Settings>[] {
  const file = readFileSync(join(packageRoot(), 'test', 'fixtures', 'nn', `${layer}.safetensors`));
  const start = 8 + Number(file.readBigUInt64LE(0));
  const { __metadata__: metadata, ...entries } = JSON.parse(file.toString('utf8', 8, start)) as {
    __metadata__: { cases: string };
  } & Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  const settings = JSON.parse(metadata.cases) as Record<string, Settings>;
  return Object.keys(settings).map((name) => {
    const stored = (key: string): Tensor => {
      const { dtype, shape, data_offsets } = entries[`${name}.${key}`]!;
      const bytes = file.subarray(start + data_offsets[0], start + data_offsets[1]);
      return fromBytes(bytes, shape, DTYPES[dtype]!);
    };
    return {
      name,
      settings: settings[name]!,
      tensor: stored,
      leaf: (key) => stored(key).requiresGrad_(),
    };
  });
}

/** Gives each parameter of a module its stored value. */
export function loadCase(module: Module, layerCase: LayerCase<unknown>): void {
  for (const name of module.namedParameters().keys()) module.load(name, layerCase.leaf(name));
}

/**
 * Compares results, and the gradient of each input, with the stored ones.
 *
 * @param inputs by their names in the file
 * @param outputs by their names in the file
 */
export function expectCase(
  layerCase: LayerCase<unknown>,
  inputs: Iterable<[string, Tensor]>,
  outputs: Record<string, Tensor>,
  tolerance = 2e-6,
): void {
  const named = [...inputs];
  const upstream = Object.keys(outputs).map((name) => layerCase.tensor(`grad.${name}`));
  for (const [name, output] of Object.entries(outputs)) {
    expectClose(output, layerCase.tensor(name), tolerance, name);
  }
  const gradients = grad(
    Object.values(outputs),
    named.map(([, input]) => input),
    upstream,
  );
  named.forEach(([name], i) => {
    expectClose(gradients[i]!, layerCase.tensor(`grad.${name}`), tolerance, `grad.${name}`);
  });
}

/** Masks for x (R, ..., C), whose first dimension counts records of one token or more. */
export function masksOf(seed: number, x: Tensor): DropoutMasks {
  const records = arange(0, x.size(0), 1, { dtype: 'int64', device: x.device });
  return new DropoutMasks([seed, 0], { records, indices: records.zerosLike() });
}

/** Every element within `tolerance` times the largest expected magnitude, or that of `scale`. */
export function expectClose(
  actual: Tensor | null,
  expected: Tensor,
  tolerance = 2e-6,
  what = '',
  scale = largest(expected),
): void {
  expect(actual?.shape, what).toEqual(expected.shape);
  const error = scope(() =>
    largest(actual!.detach().to('float64').sub(expected.detach().to('float64'))),
  );
  expect(error, `largest error of ${what}`).toBeLessThanOrEqual(tolerance * scale);
}

/** The largest magnitude of an element. */
export function largest(x: Tensor): number {
  return scope(() => x.detach().to('float64').linalgVectorNorm(Infinity).item());
}

/** Derivative of `run()` with respect to each element of a float64 tensor that it reads, by central differences. */
export function numericGradient(run: () => number, input: Tensor): Tensor {
  return noGrad(() => {
    const flat = input.detach().view([-1]);
    const step = 1e-5;
    const values = Float64Array.from({ length: input.numel }, (_, i) =>
      scope(() => {
        const element = flat.narrow(0, i, 1);
        element.add_(step);
        const above = run();
        element.sub_(2 * step);
        const below = run();
        element.add_(step);
        return (above - below) / (2 * step);
      }),
    );
    return fromTypedArray(values, input.shape);
  });
}

/** Compares the gradients of `sum(weights · f())`, with fixed weights, to central differences in float64. */
export function expectGradients(f: () => Tensor, inputs: Tensor[]): void {
  const weighted = (): Tensor => {
    const y = f();
    const weights = Float64Array.from({ length: y.numel }, (_, i) => Math.sin(i + 1));
    return fromTypedArray(weights, y.shape).mul(y).sum(null);
  };
  scope(() => {
    const analytic = grad([weighted()], inputs);
    inputs.forEach((input, i) => {
      const numeric = numericGradient(() => weighted().item(), input);
      expectClose(analytic[i]!, numeric, 1e-7, `gradient of input ${i}`);
    });
  });
}
