/** What a run's files tell, followed as they grow: its curves as columns, and everything else that happened. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { number } from '../../base/json-lines.js';
import { isMetrics, type LoggedEvent } from '../../train/run/logs.js';
import { Columns } from './columns.js';
import { GrowingFile } from './growing-file.js';
import { isShowable } from './showable.js';

/** Kept of kinds of events that may come without end. */
const MOST_OF_A_KIND = 500;

export class RunLog {
  columns = new Columns();
  /** Events by type, oldest first; of many the last. */
  readonly events = new Map<string, LoggedEvent[]>();
  /** How many of each type there were. */
  readonly counts = new Map<string, number>();
  /** Grows whenever something was read. */
  version = 0;
  /** Lines that were passed over, since they cannot be shown. */
  private broken = 0;
  private readonly metrics: GrowingFile;
  private readonly told: GrowingFile;
  private reading: Promise<void> | undefined;

  /** @param id by which the page asks for it */
  constructor(
    readonly folder: string,
    readonly id: string,
  ) {
    this.metrics = new GrowingFile(join(folder, 'metrics.jsonl'));
    this.told = new GrowingFile(join(folder, 'events.jsonl'));
  }

  /**
   * Reads what has come since; several callers share one look. A file that is long takes longer than `patience`: what has been read by
   * then can be shown, and the rest comes while it is.
   *
   * @param patience in milliseconds
   */
  async refresh(patience = Infinity): Promise<void> {
    this.reading ??= this.read().finally(() => {
      this.reading = undefined;
    });
    const { reading } = this;
    if (patience === Infinity) await reading;
    else await Promise.race([reading, sleep(patience)]);
  }

  ofType(type: string): readonly LoggedEvent[] {
    return this.events.get(type) ?? [];
  }

  /** What could not be read, a sentence each. */
  get problems(): string[] {
    const faults = [this.metrics.fault, this.told.fault].filter((fault) => fault !== undefined);
    if (this.broken === 0) return faults;
    const what = this.broken === 1 ? '1 line' : `${this.broken} lines`;
    return [
      ...faults,
      `${what} of metrics.jsonl and events.jsonl cannot be read; the rest is shown.`,
    ];
  }

  private async read(): Promise<void> {
    const another = await Promise.all([this.metrics.isAnother(), this.told.isAnother()]);
    if (another.includes(true)) this.forget();
    for await (const line of this.told.lines()) {
      if (isShowable(line)) this.keep(line);
      else this.broken++;
      this.version++;
    }
    for await (const line of this.metrics.lines()) {
      if (isMetrics(line)) this.columns.add(line.update, valuesOf(line), line['skipped'] === true);
      else this.broken++;
      this.version++;
    }
  }

  /** The run was begun anew. */
  private forget(): void {
    this.columns = new Columns();
    this.events.clear();
    this.counts.clear();
    this.broken = 0;
    this.metrics.rewind();
    this.told.rewind();
    this.version++;
  }

  private keep(event: LoggedEvent): void {
    const { type } = event;
    const all = this.events.get(type) ?? [];
    this.events.set(type, all);
    all.push(event);
    if (all.length > MOST_OF_A_KIND) all.shift();
    this.counts.set(type, (this.counts.get(type) ?? 0) + 1);
  }
}

/** The numbers of a line of metrics, those of ranks as `tokensPerSecond@1`, and what is told of them together. */
function valuesOf(line: Readonly<Record<string, unknown>>): Record<string, number | null> {
  const values: Record<string, number | null> = {};
  for (const [key, value] of Object.entries(line)) {
    if (key === 'update' || typeof value === 'boolean') continue;
    if (value === null) values[key] = null;
    else if (typeof value !== 'object') values[key] = number(value);
  }
  const { tokens, imageTokens, tokensPerSecond } = values;
  if (tokens && imageTokens != null && tokensPerSecond != null) {
    values['imageTokensPerSecond'] = (tokensPerSecond * imageTokens) / tokens;
    values['textTokensPerSecond'] = tokensPerSecond - values['imageTokensPerSecond'];
  }
  const { ranks } = line;
  if (Array.isArray(ranks)) {
    for (const each of ranks as (Record<string, unknown> | null)[]) {
      if (typeof each?.['rank'] !== 'number') continue;
      for (const key of ['tokensPerSecond', 'waiting', 'peakBytes']) {
        values[`${key}@${each['rank']}`] = number(each[key]);
      }
    }
  }
  return values;
}
