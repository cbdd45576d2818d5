/**
 * From a stored LLaVA to its first forward pass: seconds, and how much memory of the host that takes at most.
 * `bench/gpu/load.sh` makes the checkpoint and runs transformers on it beside.
 *
 *     node dist/bench/load.js --make DIR [--layers 32] [--hidden 4096]   write random weights of LLaVA-Llama-3-8B's shape
 *     node dist/bench/load.js DIR [--device cuda:0]                      load them, one forward pass
 *
 * The second prints one line: seconds until the weights are there, until the pass is done, until then since $START (the whole
 * process), peak of anonymous memory and of resident memory (with mapped files) in GiB.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';

import { toStoredName } from '../src/formats/layouts/rename.js';
import { LAYOUTS, LLAVA_PREFIXES } from '../src/formats/layouts/tables.js';
import { writeShards } from '../src/formats/safetensors/shards.js';
import { tensorBytes } from '../src/formats/safetensors/layout.js';
import type { TensorSource } from '../src/formats/safetensors/write.js';
import { finish, forward, Llava, loadLlava, makeBatch } from '../src/models/index.js';
import { hfConfig } from '../src/models/export/model-json.js';
import { configText } from '../src/models/export/small-files.js';
import {
  type Device,
  empty,
  RandomGenerator,
  noGrad,
  scope,
  synchronize,
  type Tensor,
  tensorsIn,
} from '../src/torch/index.js';
import { IMAGE_TOKEN, llava8b } from './shapes.js';

const TEXT_TOKENS = 64;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    make: { type: 'boolean', default: false },
    layers: { type: 'string', default: '32' },
    hidden: { type: 'string', default: '4096' },
    device: { type: 'string', default: 'cuda:0' },
  },
});

/** Random bf16 weights; one block of numbers repeats, so that writing is as fast as the disk. */
async function make(target: string): Promise<void> {
  const config = llava8b({ layers: Number(flags.layers), hidden: Number(flags.hidden) });
  const block = randomBlock();
  const model = new Llava(config, { dtype: 'bfloat16' });
  const tensors = [...model.namedParameters()].map(([name, { shape }]): TensorSource => {
    const facts = { dtype: 'BF16', shape } as const;
    const stored = toStoredName(LAYOUTS.hf, name, LLAVA_PREFIXES)!;
    return { name: stored, ...facts, bytes: () => repeat(block, tensorBytes(facts)) };
  });
  const start = performance.now();
  mkdirSync(target, { recursive: true });
  await writeShards(target, tensors);
  const json = hfConfig(
    config,
    { text: {}, whole: {}, vision: { projection_dim: 768 } },
    'bfloat16',
  );
  writeFileSync(join(target, 'config.json'), configText(json));
  const bytes = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  const seconds = (performance.now() - start) / 1000;
  console.log(`written ${(bytes / 2 ** 30).toFixed(2)} GiB in ${seconds.toFixed(1)} s`);
}

/** 64 MiB of bf16 around 0. */
function randomBlock(): Uint8Array {
  const generator = RandomGenerator.create(7);
  const draw = (): Tensor =>
    empty([2 ** 25], { dtype: 'bfloat16' }).normal_(0, 0.02, { generator });
  const block = noGrad(() => scope(() => draw().toBytes()));
  generator.dispose();
  return block;
}

async function* repeat(block: Uint8Array, bytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes; at += block.length) {
    yield await Promise.resolve(block.subarray(0, Math.min(block.length, bytes - at)));
  }
}

async function load(source: string, device: Device): Promise<void> {
  const memory = await MemoryWatch.start();
  const start = performance.now();
  const { model } = await loadLlava(source, { device });
  synchronize(device);
  const loaded = (performance.now() - start) / 1000;
  const { tokens } = model.input.image!;
  const side = model.config.vision.imageSize;
  const ids = Array.from({ length: TEXT_TOKENS + tokens }, (_, i) =>
    i >= 5 && i < 5 + tokens ? IMAGE_TOKEN : (i * 997) % 128000,
  );
  const images = [Float32Array.from({ length: 3 * side * side }, (_, i) => Math.sin(i))];
  const batch = makeBatch([{ inputIds: ids, labels: ids, images }], model.input, { device });
  const logits = noGrad(() =>
    scope(() => {
      const inputs = model.inputs(batch);
      return model.head.logits(finish(forward(model, inputs)).flatten(0, 1)).amax([]);
    }),
  );
  const peak = logits.item();
  const first = (performance.now() - start) / 1000;
  if (!Number.isFinite(peak)) throw new Error(`the largest logit is ${peak}`);
  const { anonymous, resident } = await memory.stop();
  const whole = Date.now() / 1000 - Number(process.env['START'] ?? NaN);
  const figures = [loaded, first, whole, anonymous / 2 ** 20, resident / 2 ** 20];
  console.log(`LOAD Patina ${figures.map((figure) => figure.toFixed(2)).join(' ')}`);
  for (const tensor of tensorsIn(batch)) tensor.dispose();
  logits.dispose();
  model.dispose();
}

/** Watches this process from a thread of its own, which goes on while tensors are made. In KiB. */
class MemoryWatch {
  private constructor(private readonly worker: Worker) {}

  static async start(): Promise<MemoryWatch> {
    const code = `
      const { parentPort } = require('node:worker_threads');
      const { readFileSync } = require('node:fs');
      let peak = 0;
      const look = () => {
        const status = readFileSync('/proc/self/status', 'utf8');
        const field = (name) => parseInt(status.split(name + ':')[1] ?? '0');
        peak = Math.max(peak, field('RssAnon') + field('RssShmem'));
      };
      const timer = setInterval(look, 5);
      parentPort.on('message', () => { clearInterval(timer); look(); parentPort.postMessage(peak); parentPort.close(); });
      parentPort.postMessage(0);`;
    const worker = new Worker(code, { eval: true });
    await new Promise((resolve) => worker.once('message', resolve));
    return new MemoryWatch(worker);
  }

  async stop(): Promise<{ anonymous: number; resident: number }> {
    const anonymous = await new Promise<number>((resolve) => {
      this.worker.once('message', resolve);
      this.worker.postMessage(null);
    });
    const status = readFileSync('/proc/self/status', 'utf8');
    return { anonymous, resident: Number(/VmHWM:\s+(\d+)/.exec(status)![1]) };
  }
}

const [folder] = positionals;
if (folder === undefined) throw new Error('name a folder');
if (flags.make) await make(folder);
else await load(folder, flags.device as Device);
