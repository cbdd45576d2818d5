/**
 * `node dist/bench/operators.js [--device cuda] [--json]`: our own operators beside libtorch's that do the same work: milliseconds of a call,
 * and the bandwidth of memory that reading the input and writing the result once would be.
 */

import { parseArgs } from 'node:util';
import { arange, empty, ones, randn, scope, synchronize, type Device } from '../src/torch/index.js';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    json: { type: 'boolean', default: false },
  },
});
const device = values.device as Device;
const [rows, channels] = device === 'cpu' ? [1024, 1024] : [8192, 4096];
const CALLS = 20;

/** Milliseconds of one call, the best of three turns. */
function time(call: () => void): number {
  const turn = (): number => {
    synchronize(device);
    const start = performance.now();
    for (let i = 0; i < CALLS; i++) scope(call);
    synchronize(device);
    return (performance.now() - start) / CALLS;
  };
  scope(call);
  return Math.min(turn(), turn(), turn());
}

const KEY = [1, 2] as const;
const results = scope(() => {
  const places = arange(0, rows, 1, { dtype: 'int64', device });
  const dropouts = (['bfloat16', 'float32'] as const).map((dtype) => {
    const x = randn([rows, channels], { device }).to(dtype);
    return {
      name: `dropout of ${dtype}`,
      bytes: 2 * x.bytes,
      own: time(() => x.dropout(0.1, places, places, KEY, 0)),
      libtorch: time(() => {
        const kept = ones(x.shape, { device }).uniform_(0, 1).ge(0.1);
        x.mul(kept).mul(1 / 0.9);
      }),
    };
  });
  const source = randn([rows * channels], { device });
  const target = empty([rows * channels], { dtype: 'bfloat16', device });
  const rounding = {
    name: 'stochastic rounding (libtorch: to nearest)',
    bytes: source.bytes + target.bytes,
    own: time(() => target.roundStochastic_(source, KEY)),
    libtorch: time(() => target.copy_(source)),
  };
  return [...dropouts, rounding];
});

if (values.json) {
  process.stdout.write(`${JSON.stringify({ device, rows, channels, results })}\n`);
} else {
  process.stdout.write(`${rows} x ${channels} elements on ${device}\n`);
  for (const { name, bytes, own, libtorch } of results) {
    const cell = (ms: number): string =>
      `${ms.toFixed(3).padStart(10)} ms ${(bytes / ms / 1e6).toFixed(0).padStart(6)} GB/s`;
    process.stdout.write(`${name.padEnd(44)}${cell(own)}  libtorch ${cell(libtorch)}\n`);
  }
}
