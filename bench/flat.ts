/**
 * `node dist/bench/flat.js [--json]`: resident memory during 1,000,000 operator calls in one synchronous loop, with scopes.
 *
 * Without scopes every result would be alive at the end of the loop: finalizers run only between tasks.
 */

import { liveTensors, ones, scope, setThreads } from '../src/torch/index.js';

const CALLS = 1_000_000;
const PER_SCOPE = 100;
const REPORTS = 10;

setThreads(1);
const x = ones([64, 64]);
const samples: { calls: number; rssMiB: number; heapMiB: number; live: number }[] = [];
const sample = (calls: number): void => {
  const { rss, heapUsed } = process.memoryUsage();
  samples.push({
    calls,
    rssMiB: Math.round((rss / 2 ** 20) * 10) / 10,
    heapMiB: Math.round((heapUsed / 2 ** 20) * 10) / 10,
    live: liveTensors(),
  });
};

const start = performance.now();
for (let calls = 0; calls < CALLS; calls += PER_SCOPE) {
  if (calls % (CALLS / REPORTS) === 0) sample(calls);
  scope(() => {
    for (let i = 0; i < PER_SCOPE; i++) x.add(i);
  });
}
sample(CALLS);
const seconds = (performance.now() - start) / 1000;

if (process.argv.includes('--json')) {
  process.stdout.write(`${JSON.stringify({ seconds, samples })}\n`);
} else {
  process.stdout.write('     calls   resident   JS heap   tensors alive\n');
  for (const { calls, rssMiB, heapMiB, live } of samples) {
    process.stdout.write(
      `${String(calls).padStart(10)}${`${rssMiB} MiB`.padStart(11)}${`${heapMiB} MiB`.padStart(10)}${String(live).padStart(16)}\n`,
    );
  }
  process.stdout.write(`${seconds.toFixed(1)} s\n`);
}
