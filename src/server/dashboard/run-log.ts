/** What a run's files tell, followed as they grow: its curves as columns, and everything else that happened. */
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { number } from '../../base/json-lines.js';
import type { LoggedEvent } from '../../train/run/logs.js';
import { Columns } from './columns.js';

/** Kept of kinds of events that may come without end. */
const MOST_OF_A_KIND = 500;

export class RunLog {
  readonly columns = new Columns();
  /** Events by type, oldest first; of many the last. */
  readonly events = new Map<string, LoggedEvent[]>();
  /** How many of each type there were. */
  readonly counts = new Map<string, number>();
  /** Grows whenever something was read. */
  version = 0;
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

  private async read(): Promise<void> {
    for await (const line of this.told.lines()) {
      if (typeof line['type'] !== 'string') continue;
      this.keep(line as LoggedEvent);
      this.version++;
    }
    for await (const line of this.metrics.lines()) {
      const { update } = line;
      if (typeof update !== 'number') continue;
      this.columns.add(update, valuesOf(line), line['skipped'] === true);
      this.version++;
    }
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
    for (const each of ranks as Record<string, unknown>[]) {
      for (const key of ['tokensPerSecond', 'waiting', 'peakBytes']) {
        values[`${key}@${String(each['rank'])}`] = number(each[key]);
      }
    }
  }
  return values;
}

/** A file of JSON Lines that another process appends to, read from where the last look ended. */
class GrowingFile {
  private offset = 0;
  private buffer = Buffer.alloc(1 << 20);

  constructor(private readonly path: string) {}

  /** What has come since. A torn last line waits for its end; a line that is no object is passed over. */
  async *lines(): AsyncGenerator<Record<string, unknown>> {
    const size = await stat(this.path).then(
      (facts) => facts.size,
      () => 0,
    );
    if (size <= this.offset) return;
    const file = await open(this.path);
    try {
      for (;;) {
        const { buffer } = this;
        const { bytesRead } = await file.read(buffer, 0, buffer.length, this.offset);
        // Only whole lines are taken, so that no character is torn either.
        const end = buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
        for (const line of buffer.toString('utf8', 0, end).split('\n')) {
          const value = parsed(line);
          if (value !== undefined) yield value;
        }
        this.offset += end;
        if (bytesRead < buffer.length) return;
        if (end === 0) this.buffer = Buffer.alloc(2 * buffer.length);
      }
    } finally {
      await file.close();
    }
  }
}

function parsed(line: string): Record<string, unknown> | undefined {
  if (line === '') return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
