/**
 * Tokens per second of a server at 1, 4, 16 and 64 clients, over HTTP on loopback: each asks about a picture and streams the answer,
 * greedy, on a LLaVA-Llama-3-8B shape with random weights; `bench/gpu/serve.sh` runs the peer (transformers' batched generate).
 *
 *     node dist/bench/serve.js [--device cuda:0] [--clients 1,4,16,64] [--tokens 256] [--words 64] [--layers 32] [--hidden 4096] [--json]
 *
 * What counts is the time from the first request to the last token, prompts and pictures included; the clients run in a thread of
 * their own. Questions have from half to all of the words, so that rows have reached different lengths.
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import sharp from 'sharp';

import { packageRoot } from '../src/base/native-path.js';
import { normaliseTable } from '../src/data/image/normalise.js';
import type { PictureSettings } from '../src/generate/index.js';
import { Llava } from '../src/models/index.js';
import { kernelsFor } from '../src/nn/index.js';
import { serve } from '../src/server/index.js';
import { createFormat, loadTokenizer } from '../src/text/index.js';
import {
  type Device,
  type DType,
  memoryStats,
  RandomGenerator,
  resetPeak,
  torchFacts,
} from '../src/torch/index.js';
import type { Visit, Visited } from './serve-clients.js';
import { llava8b } from './shapes.js';

const { values: flags } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda:0' },
    clients: { type: 'string', default: '1,4,16,64' },
    tokens: { type: 'string', default: '256' },
    words: { type: 'string', default: '64' },
    layers: { type: 'string', default: '32' },
    hidden: { type: 'string', default: '4096' },
    json: { type: 'boolean', default: false },
  },
});
const device = flags.device as Device;
const dtype: DType = device === 'cpu' ? 'float32' : 'bfloat16';
const counts = flags.clients.split(',').map(Number);
const config = llava8b({ layers: Number(flags.layers), hidden: Number(flags.hidden) });
const model = new Llava(config, { dtype, kernels: kernelsFor({ device, dtype }) });
using generator = RandomGenerator.create(1, device);
model.initialize(device, { generator });
model.normaliseBy(normaliseTable());
const { size } = model.input.image!;
const folder = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama3', 'hf');
const tokenizer = await loadTokenizer(folder);
// The shape has more tokens than the tokenizer: each is a word, so that each is sent.
tokenizer.bytesOf = (id) => Buffer.from(` ${id}`);
const pictures = { size, mode: 'pad', background: [0, 0, 0] } as const;
const chat = {
  ...{ model, stopTokens: [] },
  format: createFormat(tokenizer),
  pictures: pictures as unknown as PictureSettings,
};
const drawn = sharp({ create: { width: size, height: size, channels: 3, background: '#357' } });
const picture = `data:image/png;base64,${(await drawn.png().toBuffer()).toString('base64')}`;
const rows = Math.max(...counts);
const serving = await serve(new Map([['bench', chat]]), { port: 0, rows, waiting: rows });
const { url, key } = serving;
const measure = (clients: number, tokens: number): Promise<Visited> => {
  const workerData: Visit = { url, key, clients, tokens, words: Number(flags.words), picture };
  const worker = new Worker(new URL('./serve-clients.js', import.meta.url), { workerData });
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
};
const measured: object[] = [];
for (const clients of counts) {
  await measure(clients, 8); // warms up
  resetPeak(device);
  const { newTokens, seconds, firstSeconds } = await measure(clients, Number(flags.tokens));
  const peakGiB = memoryStats(device).peakAllocated / 2 ** 30;
  const speed = newTokens / seconds;
  measured.push({ clients, newTokens, seconds, firstSeconds, tokensPerSecond: speed, peakGiB });
  process.stdout.write(
    `PATINA ${clients} clients: ${speed.toFixed(1)} tokens/s, first token after ${firstSeconds.toFixed(3)} s, peak ${peakGiB.toFixed(2)} GiB\n`,
  );
}
await serving.close();
model.dispose();
const gpu = torchFacts().cuda?.devices[0]?.name ?? null;
if (flags.json) process.stdout.write(`${JSON.stringify({ gpu, dtype, measured })}\n`);
