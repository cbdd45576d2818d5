/**
 * The seconds of a trace: where the host is, where streams and the link are, and when events and collectives are passed.
 *
 * An update begins with an idle card and ends when the host has its numbers, as in `bench/gpu/plan.sh`, against which this is held. A run
 * reads them one update late, so that where the card is what holds it up its updates follow one another: it gains what the host takes until
 * the card has work for longer than that, 5 to 20 ms an update with a tower (2026-11-29-step-h200.md).
 */

import type { GhostCall } from '../torch/index.js';
import { costOf, type SquaresOf, type Traffic } from './costs.js';
import type { Card } from './devices/cards.js';
import { STEADY, type Host } from './devices/hosts.js';

/**
 * Operators that may wait for the card, so far ahead is the host at most: 1,024 launches, of which an operator makes two. It is what the
 * host had queued when 0.82 to 0.68 of a step were over (2026-11-29-train-h200.md).
 */
const QUEUE = 512;

/** An operator that the card carries out. */
export interface Work extends Traffic {
  readonly name: string;
  readonly stream: number;
  readonly shapes: readonly (readonly number[])[];
  /** It reads and writes host memory. */
  readonly onHost: boolean;
}

export interface ClockOptions {
  /** @default in the middle of a run */
  readonly host?: Host | undefined;
  /** What is known of packed sequences. */
  readonly squaresOf: SquaresOf;
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
  /** When each of the latest kernels is over; the oldest is at `head`. */
  private readonly queue = new Float64Array(QUEUE);
  private head = 0;
  private readonly events = new Map<number, number>();
  private readonly calls = new Map<number, number>();
  private begun = 0;
  /** When the optimizer began, and the micro-batches before it. */
  private beforeOptimizer = 0;
  private microBatches = 0;

  private readonly host: Host;
  private readonly squaresOf: SquaresOf;
  /** So far. */
  private launched = 0;

  constructor(
    private readonly card: Card,
    { host = STEADY, squaresOf }: ClockOptions,
  ) {
    this.host = host;
    this.squaresOf = squaresOf;
  }

  /** Where a stream is, or when it could begin. */
  at(stream: number): number {
    return Math.max(this.now, this.streams.get(stream) ?? 0);
  }

  /** The host calls an operator, or autograd a node of a graph. */
  launch({ fromGraph }: { readonly fromGraph: boolean }): void {
    this.launched++;
    this.now += this.pace * (fromGraph ? this.host.launch : this.host.call);
  }

  run({ name, stream, shapes, onHost, ...traffic }: Work): void {
    this.now += this.pace * this.host.launch;
    const { time, operations } = onHost
      ? { time: traffic.read / 2 / this.card.host, operations: 0 }
      : costOf(this.card, name, shapes, traffic, this.squaresOf);
    const over = this.at(stream) + time;
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
    this.link = Math.max(this.link, this.at(stream)) + (passes * share * bytes) / this.card.link;
    this.calls.set(call, this.link);
  }

  arrive(call: number, stream: number): void {
    this.hold(stream, this.calls.get(call) ?? 0);
  }

  beginUpdate(): void {
    this.operations = 0;
    this.work = 0;
    this.microBatches = 0;
    this.begun = this.now;
    this.beforeOptimizer = -1;
  }

  beginMicroBatch(): void {
    this.microBatches++;
  }

  beginOptimizer(): void {
    if (this.beforeOptimizer < this.begun) this.beforeOptimizer = this.passed();
  }

  /** The host waits for what it gave to the device. */
  settle(): void {
    this.now = this.passed();
  }

  /** Here the host waits for the numbers of the update. */
  endUpdate(): void {
    this.settle();
    this.now += this.host.update;
    this.updates.push(this.now - this.begun);
  }

  /** Share of the last update for which the card had work. */
  get busy(): number {
    return Math.min(1, this.work / (this.updates.at(-1) ?? Infinity));
  }

  /** Of one micro-batch of the last update, seconds: what is not the optimizer's. */
  get perMicroBatch(): number {
    return (this.beforeOptimizer - this.begun) / Math.max(1, this.microBatches);
  }

  /** How many times as long as in the middle of a run the host takes. */
  private get pace(): number {
    const { cold, warming } = this.host;
    return 1 + cold * Math.exp(-this.launched / warming);
  }

  private hold(stream: number, until: number): void {
    this.streams.set(stream, Math.max(this.streams.get(stream) ?? 0, until));
  }

  /** When host and device have done all that they were given. */
  private passed(): number {
    return Math.max(this.now, ...this.streams.values());
  }
}
