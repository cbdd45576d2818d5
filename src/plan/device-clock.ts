/**
 * The seconds of a trace: where the host is, where streams and the link are, and when events and collectives are passed.
 *
 * Updates follow one another, as those of a run on a card do, which reads the numbers of an update when it has given out the next: an update takes
 * from when the card has done the one before until it has done this one.
 */

import type { GhostCall } from '../torch/index.js';
import { costOf, type SquaresOf, type Traffic } from './costs.js';
import type { Card } from './devices/cards.js';
import { HOST } from './devices/hosts.js';

/**
 * Operators that may wait for the card, so far ahead is the host at most: 1,024 launches, of which an operator makes two. It is what the
 * host had queued when 0.82 to 0.68 of a step were over (2026-11-29-train-h200.md).
 */
const QUEUE = 512;

/**
 * How much longer kernels take beside a collective, which has some of the card's processors and of its memory's speed; of the collective's
 * own time alone on the link (2026-11-30-ranks-h200-x2.md).
 */
const CROWDED = 0.25;

/** An operator that the card carries out. */
export interface Work extends Traffic {
  readonly name: string;
  readonly stream: number;
  readonly shapes: readonly (readonly number[])[];
  /** It reads and writes host memory. */
  readonly onHost: boolean;
}

export class DeviceClock {
  /** Of the host. */
  now = 0;
  /** Of each update, seconds. */
  readonly updates: number[] = [];
  /** Of matrix products and attention since the update began. */
  operations = 0;
  /** Seconds of work that the card was given since the update began, whatever stream it is in. */
  private work = 0;
  private readonly streams = new Map<number, number>();
  private link = 0;
  /** Begins and ends of collectives that kernels may yet run beside. */
  private collectives: (readonly [number, number])[] = [];
  /** When each of the latest kernels is over; the oldest is at `head`. */
  private readonly queue = new Float64Array(QUEUE);
  private head = 0;
  private readonly events = new Map<number, number>();
  private readonly calls = new Map<number, number>();
  /** When the card has done what came before the update. */
  private begun = 0;
  /** How far the host was ahead when it had given out the last update, and whether it has waited since. */
  private lead = 0;
  private isPaused = false;
  /** When the optimizer began, and the micro-batches before it. */
  private beforeOptimizer = 0;
  private microBatches = 0;

  /** @param squaresOf what is known of packed sequences */
  constructor(
    private readonly card: Card,
    private readonly squaresOf: SquaresOf,
  ) {}

  /** Where a stream is, or when it could begin. */
  at(stream: number): number {
    return Math.max(this.now, this.streams.get(stream) ?? 0);
  }

  /** The host calls an operator, or autograd a node of a graph. */
  launch({ fromGraph }: { readonly fromGraph: boolean }): void {
    this.now += fromGraph ? HOST.node : HOST.call;
  }

  run({ name, stream, shapes, onHost, ...traffic }: Work): void {
    this.now += HOST.launch;
    const { time, operations } = onHost
      ? { time: traffic.read / 2 / this.card.host, operations: 0 }
      : costOf(this.card, name, shapes, traffic, this.squaresOf);
    const begin = this.at(stream);
    const over = begin + time + CROWDED * this.besideCollectives(begin, begin + time);
    this.streams.set(stream, over);
    // The host waits for the kernel that was queued so many before.
    this.now = Math.max(this.now, this.queue[this.head]!);
    this.queue[this.head] = over;
    this.head = (this.head + 1) % QUEUE;
    this.operations += operations;
    this.work += time;
  }

  record(event: number, stream: number): void {
    this.events.set(event, this.at(stream));
  }

  wait(event: number, stream: number): void {
    this.hold(stream, this.events.get(event) ?? 0);
  }

  call({ call, name, ranks, bytes, stream }: GhostCall): void {
    const share = ranks > 1 ? (ranks - 1) / ranks : 0;
    const passes = name === 'all-reduce' ? 2 : 1;
    const begin = Math.max(this.link, this.at(stream));
    this.link = begin + (passes * share * bytes) / this.card.link;
    this.calls.set(call, this.link);
    this.collectives = this.collectives.filter(([, end]) => end > this.now);
    this.collectives.push([begin, this.link]);
  }

  /** Seconds of a stretch for which there are collectives too. */
  private besideCollectives(from: number, to: number): number {
    return this.collectives.reduce(
      (sum, [begin, end]) => sum + Math.max(0, Math.min(to, end) - Math.max(from, begin)),
      0,
    );
  }

  arrive(call: number, stream: number): void {
    this.hold(stream, this.calls.get(call) ?? 0);
  }

  beginUpdate(): void {
    this.operations = 0;
    this.work = 0;
    this.microBatches = 0;
    // Most updates of a run follow no pause.
    if (this.isPaused) {
      for (const stream of this.streams.keys()) this.hold(stream, this.now + this.lead);
    }
    this.isPaused = false;
    this.begun = this.passed();
    this.beforeOptimizer = -1;
  }

  beginMicroBatch(): void {
    this.microBatches++;
  }

  beginOptimizer(): void {
    if (this.beforeOptimizer < this.begun) this.beforeOptimizer = this.passed();
  }

  /** The host waits for what it gave to the device, between two updates. */
  pause(): void {
    this.now = this.passed();
    this.isPaused = true;
  }

  /** Here the host waits for the numbers of the update before. */
  endUpdate(): void {
    this.now = Math.max(this.now + HOST.update, this.begun);
    const over = this.passed();
    this.updates.push(over - this.begun);
    this.lead = over - this.now;
  }

  /** Share of the last update for which the card had work. */
  get busy(): number {
    return Math.min(1, this.work / (this.updates.at(-1) ?? Infinity));
  }

  /** Of one micro-batch of the last update, seconds: what is not the optimizer's. */
  get perMicroBatch(): number {
    return (this.beforeOptimizer - this.begun) / Math.max(1, this.microBatches);
  }

  private hold(stream: number, until: number): void {
    this.streams.set(stream, Math.max(this.streams.get(stream) ?? 0, until));
  }

  /** When host and device have done all that they were given. */
  private passed(): number {
    return Math.max(this.now, ...this.streams.values());
  }
}
