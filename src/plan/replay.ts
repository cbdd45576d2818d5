/** What a card would have made of a trace, line by line: its memory, and its time beside it. */

import type { GhostBegin, TraceLine } from '../torch/index.js';
import type { AllocatorOptions } from './caching-allocator.js';
import type { Known } from './categories.js';
import { DeviceClock } from './device-clock.js';
import type { Card } from './devices/cards.js';
import type { Moment } from './course.js';
import { LiveMemory, type Peaks } from './live-memory.js';
import { operatorKind, type OperatorKind } from './operator-kinds.js';
import { squaresOf } from './squares.js';
import { isBetween, Places } from './timeline.js';
import { libraryWorkspaces, workspacesOf } from './workspaces.js';
import type { RecordShape } from '../train/index.js';

export interface ReplayOptions extends AllocatorOptions {
  readonly card: Card;
  /** The micro-batches of an update, for attention over packed records. @default they are of one length */
  readonly batches?: readonly (readonly RecordShape[])[] | undefined;
}

export interface Replayed extends Peaks {
  /** Of each update, seconds. */
  readonly updates: readonly number[];
  /** Of one micro-batch of the last update, seconds: what is not the optimizer's. */
  readonly perMicroBatch: number;
  /** Of matrix products and attention in the last update. */
  readonly operations: number;
  /** Share of the last update for which the card had work. */
  readonly busy: number;
}

/** What libtorch calls the nodes of a graph that its backward goes through. On a card a thread of their own runs them. */
const AUTOGRAD = 'autograd::engine::';

/** A range or an operator that has begun. */
interface Running {
  readonly line: GhostBegin;
  readonly kind: OperatorKind;
  /** The operator within which it runs. */
  readonly above: Running | null;
  /** A thread of autograd's runs it on a card. */
  readonly inGraph: boolean;
  /** Bytes that it allocated. */
  made: number;
  /** The time of operators within it is counted. */
  counted: boolean;
}

/** @param known what lasting tensors are, by block */
export function replay(
  lines: Iterable<TraceLine>,
  known: ReadonlyMap<number, Known>,
  options: ReplayOptions,
): Replayed {
  const run = new Replay(options);
  run.take(lines);
  return run.result(known);
}

/** Takes a trace in pieces. */
export class Replay {
  private readonly card: Card;
  private readonly places = new Places();
  private readonly clock: DeviceClock;
  private readonly memory: LiveMemory;
  /** What has begun, ranges too. */
  private readonly stack: Running[] = [];
  /** The innermost operator. */
  private operator: Running | null = null;
  /** Libraries that have taken their memory, by thread and stream. */
  private readonly libraries = new Set<string>();

  constructor({ card, batches = [], ...options }: ReplayOptions) {
    this.card = card;
    this.clock = new DeviceClock(card, squaresOf(batches));
    this.memory = new LiveMemory(this.places, this.clock, options);
  }

  /** Most that was allocated so far, bytes. */
  get allocated(): number {
    return this.memory.allocated;
  }

  take(lines: Iterable<TraceLine>): void {
    for (const line of lines) this.follow(line);
  }

  /** Memory through the last update, in at most so many moments. */
  course(known: ReadonlyMap<number, Known>, most: number): Moment[] {
    return this.memory.course(known, most);
  }

  /** @param known what lasting tensors are, by block */
  result(known: ReadonlyMap<number, Known>): Replayed {
    const { updates, perMicroBatch, operations, busy } = this.clock;
    return { ...this.memory.result(known), updates, perMicroBatch, operations, busy };
  }

  private follow(line: TraceLine): void {
    const { memory, clock } = this;
    switch (line.kind) {
      case 'allocate':
        memory.allocate(line, this.operator?.line.name ?? '');
        if (!line.host) this.addMade(line.bytes);
        break;
      case 'free':
        memory.free(line.block);
        break;
      case 'protect':
        memory.protect(line.block, line.stream);
        break;
      case 'begin':
        this.begin(line);
        break;
      case 'end':
        this.end(line.number);
        break;
      case 'record':
        clock.record(line.event, line.stream);
        break;
      case 'wait':
        clock.wait(line.event, line.stream);
        break;
      case 'call':
        if (line.ranks > 1) memory.share(line.block);
        clock.call(line);
        break;
      case 'arrive':
        clock.arrive(line.call, line.stream);
    }
  }

  private addMade(bytes: number): void {
    for (let each = this.operator; each !== null; each = each.above) each.made += bytes;
  }

  private begin(line: GhostBegin): void {
    const { name, isRange } = line;
    this.memory.closePeak();
    const above = this.operator;
    const inGraph = above?.inGraph === true || name.startsWith(AUTOGRAD);
    if (isRange) this.beginRange(name);
    else if (above === null) this.clock.launch({ fromGraph: inGraph });
    const kind = operatorKind(name);
    const running: Running = { line, kind, above, inGraph, made: 0, counted: false };
    this.stack.push(running);
    if (!isRange) this.operator = running;
  }

  /** What libraries take when all that the operator gives is there. */
  private takeWorkspaces({ line: { shapes, stream }, kind, inGraph }: Running): void {
    for (const { library, bytes } of libraryWorkspaces(this.card, kind, shapes)) {
      const key = `${library} ${inGraph} ${stream}`;
      if (this.libraries.has(key)) continue;
      this.libraries.add(key);
      this.memory.take(bytes, stream);
    }
    const blocks = workspacesOf(kind, shapes).map((bytes) => this.memory.take(bytes, stream));
    if (blocks.length === 0) return;
    this.memory.closePeak();
    for (const block of blocks) this.memory.giveBack(block);
  }

  private beginRange(name: string): void {
    if (name.startsWith('ProfilerStep#')) {
      this.clock.beginUpdate();
      this.memory.beginUpdate();
    }
    if (isBetween(name)) this.clock.pause(); // numbers of the update are read first
    if (name === 'forward head') this.clock.beginMicroBatch();
    if (name === 'optimizer') this.clock.beginOptimizer();
    this.places.begin(name);
    this.memory.enter();
  }

  /** Most often the innermost. */
  private leave(number: number): Running | undefined {
    const { stack } = this;
    if (stack.at(-1)?.line.number === number) return stack.pop();
    const at = stack.findLastIndex(({ line }) => line.number === number);
    return at < 0 ? undefined : stack.splice(at, 1)[0];
  }

  private end(number: number): void {
    const running = this.leave(number);
    if (running === undefined) return; // older than the trace
    this.memory.closePeak();
    const { line, kind, made, counted } = running;
    const { name, isRange, onHost, stream, bytes, overwritten, shapes } = line;
    if (isRange) {
      this.places.end(name);
      if (name.startsWith('ProfilerStep#')) {
        this.clock.endUpdate();
        this.memory.endUpdate();
      }
      if (isBetween(name)) this.clock.pause();
      return;
    }
    this.takeWorkspaces(running);
    const { above } = running;
    if (this.operator === running) this.operator = above;
    if (above !== null && above.kind.isWhole) return;
    const { isFree, isWhole } = kind;
    const isIdle = isFree || (made === 0 && overwritten === 0);
    if (isIdle || (counted && !isWhole)) {
      if (above !== null && counted) above.counted = true;
      return;
    }
    this.clock.run({ name, stream, shapes, onHost, read: bytes, overwritten, made });
    if (above !== null) above.counted = true;
  }
}

/** At the limit the allocator gives back what lies idle, and goes on: then what it does so is what counts. */
export function withinLimit(free: Replayed, limit: number, again: () => Replayed): Replayed {
  return free.reserved > limit && free.allocated <= limit ? again() : free;
}
