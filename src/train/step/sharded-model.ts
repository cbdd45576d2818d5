/**
 * A model whose parameters lie in flat buffers: for each segment one buffer per dtype and trainability, and buffers of their own for
 * what several segments read (tied embeddings).
 */

import type { SegmentBase, SegmentedModel } from '../../models/index.js';
import { elementCount } from '../../formats/stored.js';
import {
  INT8_BLOCK,
  int8Blocks,
  isScales,
  parameterOf,
  type ParameterGroup,
} from '../../optim/index.js';
import {
  FlatBuffer,
  type ProcessGroup,
  type TensorPart,
  wholeParts,
} from '../../parallel/index.js';
import type { Device, DType, Tensor } from '../../torch/index.js';
import type { RankGroups } from './rank-groups.js';

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

/** What is kept in host memory: the optimizer's states and masters, or in stage 3 the slices of all parameters as well. */
export type Offload = 'none' | 'optimizer' | 'parameters';

export interface ShardingOptions {
  readonly stage: ZeroStage;
  /** Type of the optimizer's weights: in stage 3 the slices of what trains are kept in it. @default that of the parameters */
  readonly master?: DType | undefined;
  /** With it the masters are the host's. @default 'none' */
  readonly offload?: Offload | undefined;
  /** Where buffers lie, of a model whose parameters are on meta until they are filled. @default where the parameters are */
  readonly device?: Device | undefined;
}

export class ShardedModel {
  /** In the order of the model. */
  readonly units: readonly ShardUnit[];
  readonly trained: readonly ShardUnit[];
  /** Segments that run again in the backward. */
  readonly revisited: ReadonlySet<SegmentBase>;
  /** What this rank keeps of each parameter in a buffer, flat. */
  private readonly pieces: ReadonlyMap<string, Tensor>;
  private readonly bySegment: ReadonlyMap<string, readonly ShardUnit[]>;

  /**
   * Moves parameters into buffers: those that train, and in stage 3 the frozen ones too. The model's own tensors are
   * replaced and freed.
   */
  constructor(
    private readonly model: SegmentedModel,
    { rank, size: ranks }: Pick<ProcessGroup, 'rank' | 'size'>,
    { stage, master, device, offload = 'none' }: ShardingOptions,
  ) {
    const segments = [...model.segments, model.head];
    const first = model.segments.findIndex(trains);
    this.revisited = new Set(first < 0 ? [] : model.segments.slice(first));
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
      const kept = {
        dtype: trained && offload === 'none' ? master : undefined,
        host: offload === 'parameters',
      };
      const buffer = new FlatBuffer(parameters, {
        ...{ rank, ranks, kept, device },
        resident: stage < 3,
      });
      for (const [name, leaf] of buffer.leaves) model.load(name, leaf);
      return {
        name: by.join(' + '),
        ...{ buffer, trained },
        segments: by.length,
        visual: by.every((each) => isVisual.get(each) === true),
      };
    });
    this.trained = this.units.filter(({ trained }) => trained);
    this.pieces = new Map(this.units.flatMap(({ buffer }) => [...buffer.piecesIn(buffer.slice)]));
    for (const piece of this.pieces.values()) piece.keep();
    this.bySegment = new Map(
      segments.map(({ name }) => [
        name,
        this.units.filter((unit) => unit.name.split(' + ').includes(name)),
      ]),
    );
  }

  /** Whether a parameter lies in one of the buffers. */
  holds(parameter: string): boolean {
    return this.units.some(({ buffer }) => buffer.leaves.has(parameter));
  }

  unitsOf({ name }: SegmentBase): readonly ShardUnit[] {
    return this.bySegment.get(name)!;
  }

  /**
   * The same groups over what this rank updates: its pieces of the parameters, flat.
   *
   * @param own the pieces. @default those of the slices
   */
  groupsOf(
    groups: readonly ParameterGroup[],
    own: ReadonlyMap<string, Tensor> = this.pieces,
  ): ParameterGroup[] {
    const from = new Map(
      this.trained.flatMap(({ buffer }) => buffer.pieces.map((piece) => [piece.name, piece.from])),
    );
    return groups.map((group) => ({
      ...group,
      from,
      parameters: new Map(
        [...group.parameters.keys()].flatMap((name) => {
          const tensor = own.get(name);
          return tensor === undefined ? [] : [[name, tensor] as const];
        }),
      ),
    }));
  }

  /** Bytes that stay on this rank of parameters in their own type; where slices are masters they are the optimizer's. */
  get bytes(): number {
    return this.units.reduce((sum, { buffer }) => sum + (isMaster(buffer) ? 0 : buffer.bytes), 0);
  }

  /** Bytes of slices that are masters of what is gathered. */
  get masterBytes(): number {
    return this.units.reduce((sum, { buffer }) => sum + (isMaster(buffer) ? buffer.bytes : 0), 0);
  }

  /** Of these, by name, those that are kept in another type than the parameters: masters of what is gathered. */
  masters(): Map<string, Tensor> {
    const kept = this.trained.filter(({ buffer }) => isMaster(buffer));
    const names = kept.flatMap(({ buffer }) => buffer.pieces.map(({ name }) => name));
    return new Map(names.map((name) => [name, this.pieces.get(name)!]));
  }

  /** This rank's parts of all parameters: pieces of those that do not stay whole. Those who have the same take turns at writing. */
  parts(groups: Pick<RankGroups, 'world' | 'replicas'>): readonly TensorPart[] {
    const cut = this.units.filter(({ buffer }) => !buffer.resident);
    const inPieces = new Set(cut.flatMap(({ buffer }) => [...buffer.leaves.keys()]));
    const whole = [...this.model.namedParameters()].filter(([name]) => !inPieces.has(name));
    return [...wholeParts(new Map(whole), groups.world), ...this.pieceParts(cut, groups)];
  }

  /** The optimizer's state, which is kept of the pieces, likewise. */
  partsOfState(
    state: ReadonlyMap<string, Tensor>,
    groups: Pick<RankGroups, 'replicas'>,
  ): readonly TensorPart[] {
    const pieces = new Map(
      this.pieceParts(this.trained, groups).map((part) => [part.name, part] as const),
    );
    return [...state].map(([name, tensor]) => {
      const { shape, from, writes } = pieces.get(parameterOf(name))!;
      if (isScales(name)) {
        // Of blocks, none of which is cut: a piece begins at a multiple of their length.
        const blocks = [int8Blocks(elementCount(shape))];
        return { name, shape: blocks, from: from / INT8_BLOCK, tensor, writes };
      }
      // The step count is one number, which every rank with a piece has.
      return tensor.ndim === 0
        ? { name, shape: [], from: 0, tensor, writes: writes && from === 0 }
        : { name, shape, from, tensor, writes };
    });
  }

  private pieceParts(
    units: readonly ShardUnit[],
    { replicas }: Pick<RankGroups, 'replicas'>,
  ): TensorPart[] {
    return units.flatMap(({ buffer: { whole, layout, pieces } }) =>
      pieces.map(({ name, from }, i) => ({
        ...{ name, from, dtype: whole.dtype },
        shape: layout.stretches.get(name)!.shape,
        tensor: this.pieces.get(name)!,
        writes: i % replicas.size === replicas.rank,
      })),
    );
  }

  dispose(): void {
    for (const piece of this.pieces.values()) piece.dispose();
    for (const { buffer } of this.units) buffer.dispose();
  }
}

/** Whether what a rank keeps is the optimizer's weights, from which parameters are rounded when they are gathered. */
function isMaster({ slice, whole }: FlatBuffer): boolean {
  return slice.dtype !== whole.dtype;
}

function trains(segment: SegmentBase): boolean {
  return [...segment.parameters().values()].some(({ requiresGrad }) => requiresGrad);
}
