/**
 * Tokens per second of answers to one prompt with a picture: greedy, on a LLaVA-Llama-3-8B shape with random weights;
 * `bench/gpu/chat.sh` runs the peer (transformers' generate) beside it on a GPU.
 *
 *     node dist/bench/chat.js [--device cuda:0] [--tokens 256] [--question 64] [--runs 3] [--layers 32] [--hidden 4096] [--json]
 *
 * What counts is the time from the first new token to the last; the first one, with the picture and the prompt, is told apart.
 */

import { parseArgs } from 'node:util';
import { median } from '../src/base/median.js';
import { generate, type Prompt } from '../src/generate/index.js';
import { Llava } from '../src/models/index.js';
import { kernelsFor } from '../src/nn/index.js';
import { scattered } from '../src/plan/noise.js';
import {
  RandomGenerator,
  memoryStats,
  resetPeak,
  torchFacts,
  type Device,
  type DType,
} from '../src/torch/index.js';
import { IMAGE_TOKEN, llava8b } from './shapes.js';

const { values: flags } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda:0' },
    tokens: { type: 'string', default: '256' },
    question: { type: 'string', default: '64' },
    runs: { type: 'string', default: '3' },
    layers: { type: 'string', default: '32' },
    hidden: { type: 'string', default: '4096' },
    json: { type: 'boolean', default: false },
  },
});
const device = flags.device as Device;
const dtype: DType = device === 'cpu' ? 'float32' : 'bfloat16';
const [tokens, question, runs] = [flags.tokens, flags.question, flags.runs].map(Number) as [
  number,
  number,
  number,
];

const config = llava8b({ layers: Number(flags.layers), hidden: Number(flags.hidden) });

const ids = Array.from({ length: 5 + 576 + question }, (_, i) =>
  i >= 5 && i < 581 ? IMAGE_TOKEN : scattered(i) % 128000,
);
const prompt: Prompt = {
  inputIds: ids,
  images: [Float32Array.from({ length: 3 * 336 * 336 }, (_, i) => Math.sin(i))],
};

const kernels = kernelsFor({ device, dtype });
const model = new Llava(config, { dtype, kernels });
const generator = RandomGenerator.create(1, device);
model.initialize(device, { generator });
resetPeak(device);
const measured: { first: number; rest: number }[] = [];
for (let run = 0; run <= runs; run++) {
  const start = performance.now();
  let first = start;
  let count = 0;
  for await (const token of generate(model, [prompt], { maxNewTokens: tokens })) {
    if (count++ === 0) first = performance.now();
    if (token.finish !== null) break;
  }
  const rest = (performance.now() - first) / 1000;
  process.stderr.write(
    `run ${run}: first token ${(first - start).toFixed(0)} ms, then ${((1000 * rest) / (tokens - 1)).toFixed(2)} ms a token\n`,
  );
  if (run > 0) measured.push({ first: (first - start) / 1000, rest }); // the first run warms up
}
const result = {
  gpu: torchFacts().cuda?.devices[0]?.name ?? null,
  dtype,
  promptTokens: ids.length,
  newTokens: tokens,
  firstTokenSeconds: Number(median(measured.map(({ first }) => first)).toFixed(4)),
  tokensPerSecond: Number(((tokens - 1) / median(measured.map(({ rest }) => rest))).toFixed(1)),
  peakGiB: Number((memoryStats(device).peakAllocated / 2 ** 30).toFixed(2)),
};
process.stdout.write(
  `PATINA ${result.tokensPerSecond} tokens/s after the first, first token ${result.firstTokenSeconds} s, peak ${result.peakGiB} GiB\n`,
);
if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
model.dispose();
generator.dispose();
