/** Shapes of updates as they come, one after the other: the heaviest micro-batch, a typical one, and how tokens are spread. */

import type { RecordShape, ShapedUpdate } from '../data/index.js';

/** How numbers are spread. */
export interface Spread {
  readonly mean: number;
  readonly median: number;
  readonly p99: number;
  readonly most: number;
}

export interface UpdateFacts {
  /** Of a record as it is trained on. */
  readonly recordTokens: Spread;
  /** Of a micro-batch. */
  readonly microBatchTokens: Spread;
  /** Of an update on one GPU, on average. */
  readonly microBatches: number;
  /** Share of `batchTokens` that a micro-batch has, on average; `null` without a budget. */
  readonly fill: number | null;
  /** Share of a step for which a GPU has work, on average: where all have as many tokens, 1. */
  readonly balance: number;
  /** Of all GPUs. */
  readonly tokensPerUpdate: number;
}

/** Micro-batches among which a typical one is chosen. */
const KEPT = 2048;

export class SeenUpdates {
  heaviest: readonly RecordShape[] = [];
  private updates = 0;
  /** All ranks take as many. */
  private steps = 0;
  /** Of the fullest rank of each step, and of all ranks on average. */
  private slowest = 0;
  private mean = 0;
  private total = 0;
  private readonly records: number[] = [];
  private readonly batches: number[] = [];
  /** Every so many of the micro-batches. */
  private kept: (readonly RecordShape[])[] = [];
  private stride = 1;

  add(update: ShapedUpdate): void {
    this.updates++;
    const byRank = update.map((batches) => batches.map((batch) => this.see(batch)));
    const steps = Math.max(0, ...byRank.map((batches) => batches.length));
    this.steps += steps;
    for (let step = 0; step < steps; step++) {
      const tokens = byRank.map((batches) => batches[step] ?? 0);
      const sum = tokens.reduce((a, b) => a + b, 0);
      this.slowest += Math.max(...tokens);
      this.mean += sum / tokens.length;
      this.total += sum;
    }
  }

  /** @returns its tokens */
  private see(batch: readonly RecordShape[]): number {
    for (const { tokens } of batch) this.records.push(tokens);
    const tokens = tokensOf(batch);
    if (tokens > tokensOf(this.heaviest)) this.heaviest = batch;
    if (this.batches.length % this.stride === 0) this.kept.push(batch);
    if (this.kept.length > KEPT) {
      this.kept = this.kept.filter((_, i) => i % 2 === 0);
      this.stride *= 2;
    }
    this.batches.push(tokens);
    return tokens;
  }

  /** The micro-batch that is nearest to what the slowest of a step has on average. */
  get typical(): readonly RecordShape[] {
    const wanted = this.slowest / this.steps;
    const off = (batch: readonly RecordShape[]): number => Math.abs(tokensOf(batch) - wanted);
    return this.kept.reduce((best, each) => (off(each) < off(best) ? each : best), this.heaviest);
  }

  facts(budget: number | undefined): UpdateFacts {
    const microBatchTokens = spreadOf(this.batches);
    return {
      recordTokens: spreadOf(this.records),
      microBatchTokens,
      microBatches: this.steps / this.updates,
      fill: budget === undefined ? null : microBatchTokens.mean / budget,
      balance: this.mean / this.slowest,
      tokensPerUpdate: this.total / this.updates,
    };
  }
}

function tokensOf(batch: readonly RecordShape[]): number {
  return batch.reduce((sum, { tokens }) => sum + tokens, 0);
}

function spreadOf(numbers: readonly number[]): Spread {
  const sorted = Int32Array.from(numbers).sort();
  const at = (share: number): number => sorted[Math.ceil(share * sorted.length) - 1]!;
  const mean = sorted.reduce((sum, each) => sum + each, 0) / sorted.length;
  return { mean, median: at(0.5), p99: at(0.99), most: at(1) };
}
