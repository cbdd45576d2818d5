/** Seconds of plans beside what one H200 took for the same configurations (bench/results/). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../src/base/native-path.js';
import { predict } from './plan-row.js';
import type { PlanRow } from './plan-summary.js';

const ROWS = readFileSync(
  join(packageRoot(), 'bench', 'results', '2026-11-29-plan-h200.jsonl'),
  'utf8',
)
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line) as PlanRow);

// One of each kind, of 56 of which 54 were within 10 %. Constants of the host were fitted to all of them, those of the card to kernels. Rows of weights in
// bf16 alone are left out: their optimizer took copies then.
test.each([
  'lora 4 blocks 4x2048 products',
  'full 4 blocks 4x2048 keep',
  'full int8 states 4 blocks',
  'full in backward',
  'lora nf4 8 blocks products',
  'lora fp8 8 blocks recompute',
  'lora text 1x1024',
  'lora text 1x8192',
  'projector alone 16 captions',
  'lora on tower and decoder',
  'lora mixed lengths',
  'lora accumulate 8',
  'lora dropout',
  'full offload optimizer',
])('%s takes what it took', async (name) => {
  const { config, measured } = ROWS.find((row) => row.name === name)!;
  if ('failed' in measured) throw new Error(measured.failed);
  const { seconds } = await predict(config, 'cpu');
  expect(Math.abs(seconds / measured.seconds! - 1)).toBeLessThan(0.1);
});
