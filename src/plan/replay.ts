/**
 * What a card would have made of a trace: its memory line by line, through an imitation of libtorch's allocator, and the time of host and
 * streams beside it, since a block that another stream reads is free only when that stream has passed.
 */

import type { TraceLine } from '../torch/index.js';
import { CachingAllocator, type AllocatorOptions, type Block } from './caching-allocator.js';
import {
  CATEGORIES,
  categoryOf,
  nameOf,
  type Category,
  type Known,
  type Life,
} from './categories.js';
import { costOf, isFree, isWhole, productWorkspace, workspaceOf } from './costs.js';
import type { Card } from './devices/cards.js';
import { Places, PHASES, type Phase } from './timeline.js';

/** Seconds that the host takes for one call of an operator (6,400 calls in 86 ms, 2026-11-29-train-h200.md). */
const CALL = 13e-6;
/**
 * Operators that may wait for the card, so far ahead is the host at most: 1,024 launches, of which an operator makes two. It is what the
 * host had queued when 0.82 to 0.68 of a step were over (2026-11-29-train-h200.md).
 */
const QUEUE = 512;

export interface ReplayOptions extends AllocatorOptions {
  readonly card: Card;
}

export interface PhaseMemory {
  readonly phase: Phase;
  readonly allocated: number;
  readonly reserved: number;
}

export interface LargeTensor {
  readonly name: string;
  readonly category: Category;
  readonly bytes: number;
}

export interface Replayed {
  /** Peaks, bytes. */
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
  /** Of each update, seconds. */
  readonly updates: readonly number[];
  /** Of one micro-batch of the last update, seconds: what is not the optimizer's. */
  readonly perMicroBatch: number;
  /** Of matrix products and attention in the last update. */
  readonly operations: number;
}

interface Running {
  readonly name: string;
  readonly isRange: boolean;
  readonly onHost: boolean;
  readonly stream: number;
  readonly bytes: number;
  readonly shapes: readonly (readonly number[])[];
  readonly workspace: Block | null;
  /** What it allocated. */
  made: number;
  /** Seconds of operators within it that count. */
  within: number;
  counted: boolean;
}

/** @param known what lasting tensors are, by block */
export function replay(
  lines: readonly TraceLine[],
  known: ReadonlyMap<number, Known>,
  options: ReplayOptions,
): Replayed {
  const run = new Replay(options);
  run.take(lines);
  return run.result(known);
}

/** Takes a trace in pieces. */
export class Replay {
  private readonly allocator: CachingAllocator;
  private readonly card: Card;
  private readonly places = new Places();
  private readonly lives = new Map<number, Life>();
  private readonly blocks = new Map<number, Block>();
  private readonly hostBlocks = new Map<number, number>();
  private host = 0;
  private hostPeak = 0;
  private readonly phases = new Map<Phase, { allocated: number; reserved: number }>();
  private peak = { allocated: 0, place: this.places.current };
  /** The latest allocation made a peak, of which `alive` is not taken yet. */
  private peakLine = false;
  /** Lines so far, and at the peak. */
  private line = 0;
  private peakAt = 0;
  private readonly running = new Map<number, Running>();
  private readonly stack: Running[] = [];

  // Seconds: where the host is, where streams and the link are, when events and calls are passed.
  private now = 0;
  private readonly streams = new Map<number, number>();
  private link = 0;
  /** When each of the latest kernels is over. */
  private readonly queue: number[] = [];
  private readonly events = new Map<number, number>();
  private readonly calls = new Map<number, number>();
  private readonly readers = new Map<number, Set<number>>();
  /** Freed by the host, and read by a stream until then. */
  private pending: { readonly block: Block; readonly until: number }[] = [];
  private readonly withProducts = new Set<number>();
  private readonly updates: number[] = [];
  private begun = 0;
  /** When the optimizer began, and the micro-batches before it. */
  private beforeOptimizer = 0;
  private microBatches = 0;
  private operations = 0;

  constructor({ card, ...options }: ReplayOptions) {
    this.card = card;
    this.allocator = new CachingAllocator(options);
  }

  /** Most that was allocated so far. */
  get allocated(): number {
    return this.peak.allocated;
  }

  take(lines: readonly TraceLine[]): void {
    for (const line of lines) this.follow(line);
  }

  private follow(line: TraceLine): void {
    this.line++;
    switch (line.kind) {
      case 'allocate':
        this.allocate(line);
        break;
      case 'free':
        this.free(line.block);
        break;
      case 'protect': {
        const readers = this.readers.get(line.block) ?? new Set();
        this.readers.set(line.block, readers.add(line.stream));
        break;
      }
      case 'begin':
        this.begin(line);
        break;
      case 'end':
        this.end(line.number);
        break;
      case 'record':
        this.events.set(line.event, this.at(line.stream));
        break;
      case 'wait':
        this.hold(line.stream, this.events.get(line.event) ?? 0);
        break;
      case 'call': {
        const life = this.lives.get(line.block);
        if (life !== undefined && line.ranks > 1) life.shared = true;
        const share = line.ranks > 1 ? (line.ranks - 1) / line.ranks : 0;
        const passes = line.name === 'all-reduce' ? 2 : 1;
        this.link =
          Math.max(this.link, this.at(line.stream)) +
          (passes * share * line.bytes) / this.card.link;
        this.calls.set(line.call, this.link);
        break;
      }
      case 'arrive':
        this.hold(line.stream, this.calls.get(line.call) ?? 0);
    }
  }

  private at(stream: number): number {
    return Math.max(this.now, this.streams.get(stream) ?? 0);
  }

  private hold(stream: number, until: number): void {
    this.streams.set(stream, Math.max(this.streams.get(stream) ?? 0, until));
  }

  private allocate({ block, bytes, stream, host }: Extract<TraceLine, { kind: 'allocate' }>): void {
    if (host) {
      this.hostBlocks.set(block, bytes);
      this.host += bytes;
      this.hostPeak = Math.max(this.hostPeak, this.host);
      return;
    }
    this.settle();
    this.blocks.set(block, this.allocator.allocate(bytes, stream));
    const operator = this.stack.findLast(({ isRange }) => !isRange);
    const born = this.places.current;
    this.lives.set(block, {
      ...{ bytes, born, died: null, shared: false, from: this.line, until: Infinity },
      operator: operator?.name ?? '',
    });
    for (const running of this.stack) running.made += bytes;
    this.look();
  }

  private free(block: number): void {
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
    life.until = this.line;
    const readers = this.readers.get(block);
    if (readers === undefined) {
      this.allocator.free(place);
      return;
    }
    this.readers.delete(block);
    const until = Math.max(...[...readers].map((stream) => this.at(stream)));
    this.pending.push({ block: place, until });
  }

  /** Gives back what side streams have read by now. */
  private settle(): void {
    if (this.pending.length === 0) return;
    const over = this.pending.filter(({ until }) => until <= this.now);
    if (over.length === 0) return;
    this.pending = this.pending.filter(({ until }) => until > this.now);
    for (const { block } of over) this.allocator.free(block);
  }

  private look(): void {
    const { allocated, reserved } = this.allocator;
    const { current } = this.places;
    const phase = this.phases.get(current.phase) ?? { allocated: 0, reserved: 0 };
    phase.allocated = Math.max(phase.allocated, allocated);
    phase.reserved = Math.max(phase.reserved, reserved);
    this.phases.set(current.phase, phase);
    if (allocated <= this.peak.allocated) return;
    this.peak = { allocated, place: current };
    this.peakLine = true;
  }

  private begin({
    number,
    name,
    isRange,
    onHost,
    stream,
    bytes,
    shapes,
  }: Extract<TraceLine, { kind: 'begin' }>): void {
    this.snapshot();
    if (isRange) {
      if (name.startsWith('ProfilerStep#')) this.startUpdate();
      if (name === 'forward head') this.microBatches++;
      if (name === 'optimizer' && this.beforeOptimizer < this.begun) {
        this.beforeOptimizer = this.passed();
      }
      this.places.begin(name);
    } else if (!this.stack.some((each) => !each.isRange)) {
      this.now += CALL;
    }
    const wants = isRange ? 0 : workspaceOf(name, shapes);
    if (/^aten::(?:mm|addmm|bmm|baddbmm|addmm_)$/.test(name) && !this.withProducts.has(stream)) {
      this.withProducts.add(stream);
      this.allocator.allocate(productWorkspace(this.card), stream);
      this.look();
    }
    const workspace = wants === 0 ? null : this.allocator.allocate(wants, stream);
    if (workspace !== null) this.look();
    const running: Running = {
      ...{ name, isRange, onHost, stream, bytes, shapes, workspace },
      ...{ made: 0, within: 0, counted: false },
    };
    this.running.set(number, running);
    this.stack.push(running);
  }

  private startUpdate(): void {
    this.operations = 0;
    this.microBatches = 0;
    this.begun = this.now;
    this.beforeOptimizer = -1;
  }

  /** When host and device have done all that they were given. */
  private passed(): number {
    return Math.max(this.now, ...this.streams.values());
  }

  private end(number: number): void {
    const running = this.running.get(number);
    if (running === undefined) return;
    this.snapshot();
    this.running.delete(number);
    this.stack.splice(this.stack.lastIndexOf(running), 1);
    const { name, isRange, onHost, stream, bytes, shapes, made, workspace } = running;
    if (workspace !== null) this.allocator.free(workspace);
    if (isRange) {
      this.places.end(name);
      if (name.startsWith('ProfilerStep#')) this.endUpdate();
      return;
    }
    const above = this.stack.findLast((each) => !each.isRange);
    if (above !== undefined && isWhole(above.name)) return;
    if (isFree(name) || (running.counted && !isWhole(name))) {
      if (above !== undefined && running.counted) above.counted = true;
      return;
    }
    const { time, operations } = onHost
      ? { time: bytes / 2 / this.card.host, operations: 0 }
      : costOf(this.card, name, shapes, bytes + made);
    const over = this.at(stream) + time;
    this.streams.set(stream, over);
    this.queue.push(over);
    if (this.queue.length > QUEUE) this.now = Math.max(this.now, this.queue.shift()!);
    this.operations += operations;
    if (above !== undefined) above.counted = true;
  }

  /** Here the host waits for the numbers of the update. */
  private endUpdate(): void {
    this.now = this.passed();
    this.updates.push(this.now - this.begun);
  }

  /** After a peak, before anything else is begun or over. */
  private snapshot(): void {
    if (!this.peakLine) return;
    this.peakLine = false;
    this.peakAt = this.line;
  }

  /** @param known what lasting tensors are, by block */
  result(known: ReadonlyMap<number, Known>): Replayed {
    this.line++;
    this.snapshot();
    const atPeak = Object.fromEntries(CATEGORIES.map((name) => [name, 0])) as Record<
      Category,
      number
    >;
    const tensors: LargeTensor[] = [];
    for (const [block, life] of this.lives) {
      if (life.from > this.peakAt || life.until <= this.peakAt) continue;
      const { category, name } = known.get(block) ?? {
        category: categoryOf(life),
        name: nameOf(life),
      };
      atPeak[category] += life.bytes;
      tensors.push({ name, category, bytes: life.bytes });
    }
    const counted = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
    // What libraries take and rounding: all that is no tensor.
    atPeak.workspace += Math.max(0, this.peak.allocated - counted);
    const { exceeded } = this.allocator;
    return {
      ...{ allocated: this.peak.allocated, host: this.hostPeak, exceeded, atPeak },
      reserved: Math.max(...[...this.phases.values()].map(({ reserved }) => reserved)),
      ...{ phase: this.peak.place.phase, segment: this.peak.place.segment },
      largest: tensors.toSorted((a, b) => b.bytes - a.bytes).slice(0, 10),
      timeline: PHASES.flatMap((phase) => {
        const found = this.phases.get(phase);
        return found === undefined ? [] : [{ phase, ...found }];
      }),
      ...{ updates: this.updates, operations: this.operations },
      perMicroBatch: (this.beforeOptimizer - this.begun) / Math.max(1, this.microBatches),
    };
  }
}
