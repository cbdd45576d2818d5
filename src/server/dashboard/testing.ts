/** For tests: the folders of runs, as training writes them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { jsonLine } from '../../base/json-text.js';

export interface WrittenRun {
  readonly state?: string;
  readonly updates?: number;
  readonly planned?: number;
  readonly recipe?: object;
  readonly metrics?: readonly object[];
  readonly events?: readonly object[];
}

/** @returns the folder */
export function writeRun(root: string, name: string, run: WrittenRun = {}): string {
  const { state = 'finished', metrics = [], events = [], recipe = { name: 'demo' } } = run;
  const folder = join(root, name);
  mkdirSync(folder, { recursive: true });
  const time = '2026-01-31T12:00:00.000Z';
  const facts = {
    ...{ name, recipe: 'demo', state, created: time, changed: time },
    updates: run.updates ?? metrics.length,
    plannedUpdates: run.planned ?? metrics.length,
  };
  writeFileSync(join(folder, 'state.json'), JSON.stringify(facts));
  writeFileSync(join(folder, 'recipe.json'), JSON.stringify(recipe));
  writeFileSync(join(folder, 'environment.json'), JSON.stringify({ folder: root }));
  writeFileSync(join(folder, 'metrics.jsonl'), metrics.map(jsonLine).join(''));
  writeFileSync(join(folder, 'events.jsonl'), events.map(jsonLine).join(''));
  return folder;
}

/** A line of metrics; the loss falls. */
export function metricsLine(update: number, more: object = {}): object {
  return {
    ...{ update, epoch: 0, loss: 1 + 3 / update, gradientNorm: 0.7, learningRate: 1e-4 },
    ...{ seconds: 2, tokensPerSecond: 1000, samplesPerSecond: 4, waiting: 0.01, skipped: false },
    ...{ lossScale: null, tokens: 800, imageTokens: 600, supervised: 90, samples: 8 },
    ...{ peakBytes: 2 ** 30, ...more },
  };
}
