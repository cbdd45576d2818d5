/** The memory of a trace: what is alive in an imitation of libtorch's allocator, its peaks by phase, and what was alive at the highest. */

import type { GhostAllocation } from '../torch/index.js';
import { CachingAllocator, type AllocatorOptions, type Block } from './caching-allocator.js';
import { CATEGORIES, type Category, type Known, type Life } from './categories.js';
import { courseOf, kindOf, type Moment } from './course.js';
import type { DeviceClock } from './device-clock.js';
import { PHASES, type Phase, type Places } from './timeline.js';

export interface PhaseMemory {
  readonly phase: Phase;
  readonly allocated: number;
  readonly reserved: number;
  /** Of host memory that tensors take. */
  readonly host: number;
}

export interface LargeTensor {
  readonly name: string;
  readonly category: Category;
  readonly bytes: number;
}

export interface Peaks {
  /** Bytes. */
  readonly allocated: number;
  readonly reserved: number;
  readonly host: number;
  /** In which most was allocated. */
  readonly phase: Phase;
  readonly segment: string;
  /** Of what was alive then. */
  readonly atPeak: Readonly<Record<Category, number>>;
  readonly largest: readonly LargeTensor[];
  /** Peaks of the phases that came. */
  readonly timeline: readonly PhaseMemory[];
  /** Whether the limit was passed. */
  readonly exceeded: boolean;
}

export class LiveMemory {
  private readonly allocator: CachingAllocator;
  private readonly lives = new Map<number, Life>();
  private readonly blocks = new Map<number, Block>();
  private readonly hostBlocks = new Map<number, number>();
  private host = 0;
  private hostPeak = 0;
  private readonly phases = new Map<Phase, { allocated: number; reserved: number; host: number }>();
  private peak;
  /** Allocations and frees so far, and at the peak. */
  private steps = 0;
  private peakStep = 0;
  /** The latest allocation made a peak; what frees before the next operator begins or ends belongs to it. */
  private isPeakOpen = false;
  private readonly readers = new Map<number, Set<number>>();
  /** Freed by the host, and read by a stream until then. */
  private pending: { readonly block: Block; readonly until: number }[] = [];
  private readonly moves: { at: number; phase: Phase }[] = [];
  private update = { from: 0, to: 0 };

  /** @param clock a block that another stream reads is free only when that stream has passed */
  constructor(
    private readonly places: Places,
    private readonly clock: DeviceClock,
    options: AllocatorOptions,
  ) {
    this.allocator = new CachingAllocator(options);
    this.peak = { allocated: 0, place: places.current };
  }

  /** Most so far. */
  get allocated(): number {
    return this.peak.allocated;
  }

  /** @param operator the innermost one that runs */
  allocate({ block, bytes, stream, host }: GhostAllocation, operator: string): void {
    if (host) {
      this.hostBlocks.set(block, bytes);
      this.host += bytes;
      this.hostPeak = Math.max(this.hostPeak, this.host);
      this.look();
      return;
    }
    this.settle();
    this.blocks.set(block, this.allocator.allocate(bytes, stream));
    const born = this.places.current;
    const from = ++this.steps;
    const until = Infinity;
    this.lives.set(block, { bytes, born, died: null, operator, shared: false, from, until });
    this.look();
  }

  free(block: number): void {
    const host = this.hostBlocks.get(block);
    if (host !== undefined) {
      this.hostBlocks.delete(block);
      this.host -= host;
      return;
    }
    const place = this.blocks.get(block);
    if (place === undefined) return; // older than the trace
    this.blocks.delete(block);
    const life = this.lives.get(block)!;
    life.died = this.places.current;
    life.until = ++this.steps;
    const readers = this.readers.get(block);
    if (readers === undefined) {
      this.allocator.free(place);
      return;
    }
    this.readers.delete(block);
    this.allocator.giveUp(place);
    const until = Math.max(...[...readers].map((stream) => this.clock.at(stream)));
    this.pending.push({ block: place, until });
  }

  /** The stream reads the block. */
  protect(block: number, stream: number): void {
    const readers = this.readers.get(block) ?? new Set();
    this.readers.set(block, readers.add(stream));
  }

  /** Ranks call each other over the block. */
  share(block: number): void {
    const life = this.lives.get(block);
    if (life !== undefined) life.shared = true;
  }

  /** What is no tensor. */
  take(bytes: number, stream: number): Block {
    const block = this.allocator.allocate(bytes, stream);
    this.look();
    return block;
  }

  giveBack(block: Block): void {
    this.allocator.free(block);
  }

  /** After a peak, before anything else is begun or over. */
  closePeak(): void {
    if (!this.isPeakOpen) return;
    this.isPeakOpen = false;
    this.peakStep = this.steps;
  }

  /** @param known what lasting tensors are, by block */
  result(known: ReadonlyMap<number, Known>): Peaks {
    this.closePeak();
    const atPeak = Object.fromEntries(CATEGORIES.map((name) => [name, 0])) as Record<
      Category,
      number
    >;
    const tensors: LargeTensor[] = [];
    for (const [block, life] of this.lives) {
      if (life.from > this.peakStep || life.until <= this.peakStep) continue;
      const { category, name } = kindOf(life, known.get(block));
      atPeak[category] += life.bytes;
      tensors.push({ name, category, bytes: life.bytes });
    }
    const counted = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
    // What libraries take and rounding: all that is no tensor.
    atPeak.workspace += Math.max(0, this.peak.allocated - counted);
    return {
      ...{ allocated: this.peak.allocated, host: this.hostPeak, atPeak },
      exceeded: this.allocator.exceeded,
      reserved: Math.max(...[...this.phases.values()].map(({ reserved }) => reserved)),
      ...{ phase: this.peak.place.phase, segment: this.peak.place.segment },
      largest: tensors.toSorted((a, b) => b.bytes - a.bytes).slice(0, 10),
      timeline: PHASES.flatMap((phase) => {
        const found = this.phases.get(phase);
        return found === undefined ? [] : [{ phase, ...found }];
      }),
    };
  }

  /** A range has begun: a part of a phase, of which there may be nothing else. */
  enter(): void {
    const { phase } = this.places.current;
    if (this.moves.at(-1)?.phase !== phase) this.moves.push({ at: this.steps, phase });
    this.look();
  }

  beginUpdate(): void {
    this.update = { from: this.steps, to: this.steps };
  }

  endUpdate(): void {
    this.update.to = this.steps;
  }

  /** Of the last update, in at most so many moments. */
  course(known: ReadonlyMap<number, Known>, most: number): Moment[] {
    const { lives, moves, update } = this;
    return courseOf({ lives, known, moves, ...update }, most);
  }

  /** Gives back what side streams have read by now. */
  private settle(): void {
    if (this.pending.length === 0) return;
    const { now } = this.clock;
    const over = this.pending.filter(({ until }) => until <= now);
    if (over.length === 0) return;
    this.pending = this.pending.filter(({ until }) => until > now);
    for (const { block } of over) this.allocator.giveOut(block);
  }

  /** Notes how much there is, for the phase that it is in. */
  private look(): void {
    const { allocated, reserved } = this.allocator;
    const { current } = this.places;
    let phase = this.phases.get(current.phase);
    if (phase === undefined) {
      this.phases.set(current.phase, (phase = { allocated: 0, reserved: 0, host: 0 }));
    }
    phase.allocated = Math.max(phase.allocated, allocated);
    phase.reserved = Math.max(phase.reserved, reserved);
    phase.host = Math.max(phase.host, this.host);
    if (allocated <= this.peak.allocated) return;
    this.peak = { allocated, place: current };
    this.isPeakOpen = true;
  }
}
