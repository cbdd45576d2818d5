/**
 * Where the values of a model's parameters come from while nobody holds them all: the parameters stay on meta, and each rank fills its
 * parts of them. What takes a whole tensor (folding an adapter, drawing new values as a process alone draws them) makes one at a time.
 */
import { UsageError } from '../../base/errors.js';
import type { StoredTensor } from '../../formats/stored.js';
import { moduleOf } from '../../formats/layouts/rename.js';
import { type Linear, linearsOf, type Module, weightName } from '../../nn/index.js';
import {
  type Device,
  type DType,
  noGrad,
  RandomGenerator,
  scope,
  type Tensor,
} from '../../torch/index.js';
import type { AssembledAdapter } from './assemble.js';
import { adaptedLayer } from './attach-adapters.js';
import { FiniteCheck } from './finite-check.js';
import { firstMagnitude, mergedWeight } from './merged-weight.js';
import { formOf, placeReadings, quantisedReading } from './quantised-tensor.js';
import { inFileOrder, placeTensors } from './place.js';

/** A rank's part of a parameter. */
export interface FillTarget {
  readonly name: string;
  /** First element of the whole, flattened. */
  readonly from: number;
  /** To be filled: flat, or the whole in its shape. */
  readonly tensor: Tensor;
  /** Type of the parameter, where the part is kept in another. @default that of the tensor */
  readonly dtype?: DType | undefined;
}

export interface FillOptions {
  /** Where what is made as a whole lies meanwhile. */
  readonly device: Device;
  readonly signal?: AbortSignal | undefined;
}

/** New values, drawn in the order of the names. */
interface Draw {
  readonly names: readonly string[];
  readonly seed: number;
  readonly std: number | undefined;
}

const MAGNITUDE = /\.lora_magnitude_vector$/;

export class ParameterSources {
  private readonly stored = new Map<string, StoredTensor>();
  private readonly adapters = new Map<string, AssembledAdapter>();
  /** Adapters that the model came with, the latest first. */
  private readonly known: AssembledAdapter[] = [];
  private readonly draws: Draw[] = [];

  /**
   * @param where what messages call the model
   * @param allow tensors that may hold NaN: patterns of names
   */
  constructor(
    private readonly where: string,
    private readonly allow: readonly string[] = [],
  ) {}

  /** Values of a parameter that lie in a file; they count before what was known of it. */
  read(name: string, stored: StoredTensor): void {
    this.stored.set(name, stored);
    this.adapters.delete(name);
  }

  /** An adapter whose tensors are read. */
  know(adapter: AssembledAdapter): void {
    this.known.unshift(adapter);
  }

  /** Takes the adapter of the layer `path` for folded into its weight. */
  fold(path: string, linear: Linear): void {
    const adapter = this.known.find((each) => adaptedLayer(each, path) !== undefined)!;
    const names = [...linear.adapter!.namedParameters(path).keys()];
    const tensors = new Map(names.map((name) => [name, this.stored.get(name)!]));
    this.adapters.set(`${path}.weight`, { ...adapter, tensors });
    linear.makeDense();
    linear.detachAdapter();
  }

  /** Draws what has no values yet, as `initialize` does. */
  drawRest(model: Module, { seed, std }: Pick<Draw, 'seed'> & { std?: number }): void {
    const drawn = new Set(this.draws.flatMap(({ names }) => names));
    const names = [...model.namedParameters().keys()].filter(
      (name) => !this.stored.has(weightName(name)) && !drawn.has(name),
    );
    this.draws.push({ names, seed, std });
  }

  /**
   * Fills this rank's parts.
   *
   * @throws DataError `E_NON_FINITE_WEIGHTS`, and those of `placeTensors`; UsageError `E_DORA_NEW`
   */
  async fill(model: Module, targets: readonly FillTarget[], options: FillOptions): Promise<void> {
    const finite = new FiniteCheck();
    try {
      await this.fillRead(targets, finite, options);
      await this.fillQuantised(targets, finite, options);
      const byName = new Map(targets.map((target) => [target.name, target]));
      await this.fillFolded(byName, finite, options);
      for (const draw of this.draws) await this.fillDrawn(model, draw, byName, options);
      finite.check(this.where, this.allow);
    } finally {
      finite.dispose();
    }
  }

  private async fillRead(
    targets: readonly FillTarget[],
    finite: FiniteCheck,
    { signal }: FillOptions,
  ): Promise<void> {
    const refills = targets
      .flatMap(({ name, from, tensor, dtype }) => {
        const stored = this.adapters.has(name) ? undefined : this.stored.get(name);
        return stored === undefined || stored.form !== undefined
          ? []
          : [{ name, stored, from, into: tensor, dtype }];
      })
      .sort((a, b) => inFileOrder(a.stored, b.stored));
    for (const device of new Set(refills.map(({ into }) => into.device))) {
      const there = refills.filter(({ into }) => into.device === device);
      const placed = (tensor: Tensor, i: number): void => finite.add(there[i]!.name, tensor);
      await placeTensors(there, device, placed, { signal });
    }
  }

  /** Matrices in few bits are read and quantised as a whole on every rank, one at a time. */
  private async fillQuantised(
    targets: readonly FillTarget[],
    finite: FiniteCheck,
    { device, signal }: FillOptions,
  ): Promise<void> {
    const byWeight = new Map<string, FillTarget[]>();
    for (const target of targets) {
      const weight = weightName(target.name);
      if (this.adapters.has(weight) || this.stored.get(weight)?.form === undefined) continue;
      byWeight.set(weight, [...(byWeight.get(weight) ?? []), target]);
    }
    const sorted = [...byWeight].sort(([a], [b]) =>
      inFileOrder(this.stored.get(a)!, this.stored.get(b)!),
    );
    const readings = sorted.map(([name, own]) => {
      const stored = this.stored.get(name)!;
      const { leaves } = formOf(stored)!;
      const made = (parts: object): void => {
        for (const [part, whole] of Object.entries(parts) as [string, Tensor][]) {
          const leaf = `${moduleOf(name)}.${leaves[part]!}`;
          for (const target of own) if (target.name === leaf) copyPart(target, whole);
          whole.dispose();
        }
      };
      return quantisedReading(stored, device, { made, finite: { name, check: finite } });
    });
    await placeReadings(readings, device, { signal });
  }

  private async fillFolded(
    targets: ReadonlyMap<string, FillTarget>,
    finite: FiniteCheck,
    { device, signal }: FillOptions,
  ): Promise<void> {
    for (const [name, adapter] of this.adapters) {
      const target = targets.get(name);
      if (target === undefined) continue;
      const path = name.slice(0, -'.weight'.length);
      const { tensor, dtype = tensor.dtype } = target;
      const options = { dtype, device, signal };
      using whole = await mergedWeight(this.stored.get(name)!, path, adapter, options);
      copyPart(target, whole);
      finite.add(name, tensor);
    }
  }

  private async fillDrawn(
    model: Module,
    { names, seed, std }: Draw,
    targets: ReadonlyMap<string, FillTarget>,
    { device, signal }: FillOptions,
  ): Promise<void> {
    using generator = RandomGenerator.create(seed, device);
    const context = { generator, ...(std !== undefined && { std }) };
    const parameters = model.namedParameters();
    const layers = new Map(linearsOf(model));
    for (const name of names) {
      const parameter = parameters.get(name)!;
      const target = targets.get(name);
      if (MAGNITUDE.test(name)) {
        const host = name.replace(MAGNITUDE, '.weight');
        const weight = this.adapters.has(host) ? undefined : this.stored.get(host);
        if (weight === undefined) throw newBesideNew(name);
        if (target === undefined) continue;
        const { dtype } = layers.get(moduleOf(host))!.base;
        using whole = await firstMagnitude(weight, parameter.dtype, { dtype, device, signal });
        copyPart(target, whole);
        continue;
      }
      // What is read after all has drawn its numbers nevertheless.
      using whole = noGrad(() => model.draw(name, device, context)).keep();
      if (target !== undefined && !this.stored.has(name)) copyPart(target, whole);
    }
  }
}

function copyPart({ from, tensor, dtype = tensor.dtype }: FillTarget, whole: Tensor): void {
  noGrad(() =>
    scope(() => {
      const part = whole.view([-1]).narrow(0, from, tensor.numel).to(dtype);
      tensor.view([-1]).copy_(part);
    }),
  );
}

function newBesideNew(name: string): UsageError {
  return new UsageError(`${name} would begin beside a weight that lies in no file as it is.`, {
    code: 'E_DORA_NEW',
    hint: 'Use plain LoRA, merge the adapter that came with the model first, or set `parallel.zero` to 2.',
  });
}
