/**
 * A model whose parameters lie in flat buffers: for each segment one buffer per dtype and trainability, and buffers of their own for
 * what several segments read (tied embeddings).
 */

import type { SegmentBase, SegmentedModel } from '../../models/index.js';
import { parameterOf, type ParameterGroup } from '../../optim/index.js';
import {
  FlatBuffer,
  type ProcessGroup,
  type TensorPart,
  wholeParts,
} from '../../parallel/index.js';
import type { Tensor } from '../../torch/index.js';

/** Of what a rank keeps a slice alone: nothing (0), optimizer states (1), gradients too (2), parameters too (3). */
export type ZeroStage = 0 | 1 | 2 | 3;

/** One flat buffer, and who reads it. */
export interface ShardUnit {
  /** Of its segment, or of those that share it. */
  readonly name: string;
  readonly buffer: FlatBuffer;
  readonly trained: boolean;
  /** How many segments read it, each of which brings gradients. */
  readonly segments: number;
  /** Nothing reads it in a batch without pictures. */
  readonly visual: boolean;
}

export class ShardedModel {
  /** In the order of the model. */
  readonly units: readonly ShardUnit[];
  readonly trained: readonly ShardUnit[];
  private readonly bySegment: ReadonlyMap<string, readonly ShardUnit[]>;

  /**
   * Moves parameters into buffers: those that train, and in stage 3 the frozen ones too. The model's own tensors are
   * replaced and freed.
   */
  constructor(
    private readonly model: SegmentedModel,
    private readonly place: Pick<ProcessGroup, 'rank' | 'size'>,
    private readonly stage: ZeroStage,
  ) {
    const { rank, size: ranks } = place;
    const segments = [...model.segments, model.head];
    const isVisual = new Map(model.segments.map(({ name, visual }) => [name, visual]));
    /** Names of the segments that read each parameter. */
    const readers = new Map<string, string[]>();
    for (const segment of segments) {
      for (const name of segment.parameters().keys()) {
        readers.set(name, [...(readers.get(name) ?? []), segment.name]);
      }
    }
    const members = new Map<string, { readers: string[]; parameters: Map<string, Tensor> }>();
    const named = model.namedParameters();
    for (const [name, by] of readers) {
      const tensor = named.get(name)!;
      if (!tensor.requiresGrad && stage < 3) continue;
      const key = [by.join(' + '), tensor.dtype, tensor.requiresGrad].join();
      const unit = members.get(key) ?? { readers: by, parameters: new Map<string, Tensor>() };
      unit.parameters.set(name, tensor);
      members.set(key, unit);
    }
    this.units = [...members.values()].map(({ readers: by, parameters }) => {
      const trained = parameters.values().next().value!.requiresGrad;
      const buffer = new FlatBuffer(parameters, { rank, ranks, resident: stage < 3 });
      for (const [name, leaf] of buffer.leaves) model.load(name, leaf);
      return {
        name: by.join(' + '),
        ...{ buffer, trained },
        segments: by.length,
        visual: by.every((each) => isVisual.get(each) === true),
      };
    });
    this.trained = this.units.filter(({ trained }) => trained);
    this.bySegment = new Map(
      segments.map(({ name }) => [
        name,
        this.units.filter((unit) => unit.name.split(' + ').includes(name)),
      ]),
    );
  }

  unitsOf({ name }: SegmentBase): readonly ShardUnit[] {
    return this.bySegment.get(name)!;
  }

  /** The same groups over what this rank updates: whole parameters in stage 0, else its pieces of them, flat. */
  groupsOf(groups: readonly ParameterGroup[], stage: ZeroStage): ParameterGroup[] {
    const own = new Map(
      this.trained.flatMap(({ buffer }) => [
        ...(stage === 0
          ? buffer.leaves
          : buffer.parts.map(({ name, tensor }) => [name, tensor] as const)),
      ]),
    );
    return groups.map((group) => ({
      ...group,
      parameters: new Map(
        [...group.parameters.keys()].flatMap((name) => {
          const tensor = own.get(name);
          return tensor === undefined ? [] : [[name, tensor] as const];
        }),
      ),
    }));
  }

  /** This rank's parts of all parameters: pieces of those that lie in buffers which do not stay whole. */
  parts(): readonly TensorPart[] {
    const cut = this.stage === 3 ? this.units : [];
    const inPieces = new Set(cut.flatMap(({ buffer }) => [...buffer.leaves.keys()]));
    const whole = [...this.model.namedParameters()].filter(([name]) => !inPieces.has(name));
    return [
      ...wholeParts(new Map(whole), this.place),
      ...cut.flatMap(({ buffer }) => buffer.parts),
    ];
  }

  /** The optimizer's state as parts, by the pieces that it is kept of. */
  partsOf(state: ReadonlyMap<string, Tensor>): readonly TensorPart[] {
    if (this.stage === 0) return wholeParts(state, this.place);
    const pieces = new Map(
      this.trained.flatMap(({ buffer }) => buffer.parts).map((part) => [part.name, part]),
    );
    return [...state].map(([name, tensor]) => {
      const { shape, from, writes } = pieces.get(parameterOf(name))!;
      // The step count is one number, which every rank with a piece has.
      return tensor.ndim === 0
        ? { name, shape: [], from: 0, tensor, writes: writes && from === 0 }
        : { name, shape, from, tensor, writes };
    });
  }

  dispose(): void {
    for (const { buffer } of this.units) buffer.dispose();
  }
}
