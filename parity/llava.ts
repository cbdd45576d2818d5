/**
 * A LLaVA against Hugging Face transformers: hidden states, features, logits, loss and gradients of a micro-batch, in fp32 and
 * bf16, greedy answers, and every layout that the model is stored in. Any folder of the shape of `test/fixtures/llava/llama3`.
 *
 * `--policy keep|products|attention|recompute|offload` says what segments keep for the gradients (`keep`); `--packed` says of the
 * micro-batch that all of its records lie in one row, as batches are always made.
 */
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { PatinaError } from '../src/base/errors.js';
import {
  type Batch,
  type Llava,
  loadLlava,
  type LoadOptions,
  writeTensorFile,
} from '../src/models/index.js';
import type { Device, Tensor } from '../src/torch/index.js';
import { scope, scopeAsync, stack } from '../src/torch/index.js';
import { parityArguments } from './arguments.js';
import {
  COMPUTE_OPTIONS,
  computeChoice,
  type ComputeChoice,
  sayPacked,
} from './compute-options.js';
import { computeGradients, computeLoss, computeOutputs, type Results } from './llava-compute.js';
import {
  batchOf,
  type LlavaAnswers,
  type LlavaFolder,
  microBatchCount,
  readLlavaAnswers,
  readLlavaFolder,
} from './llava-folder.js';
import { compareGeneration } from './llava-generation.js';
import { Report } from './report.js';

/** Of a tensor's largest value (outputs) or norm (gradients), on every device. */
const TOLERANCE = 1e-5;
/** Of the norm of all gradients together: what a parameter with next to no gradient may be off. */
const OF_WHOLE_NORM = 1e-7;
/** How much farther than the reference's own bf16 Patina's may be from the reference's fp32. */
const BF16_FACTOR = 1.5;

export function run(argv: string[]): Promise<boolean> {
  return scopeAsync(() => runLlava(argv));
}

async function runLlava(argv: string[]): Promise<boolean> {
  const { path, values } = parityArguments(argv, 'llava', {
    out: { type: 'string' },
    ...COMPUTE_OPTIONS,
  });
  const { device, policy, packed } = computeChoice('llava', values);
  using folder = await readLlavaFolder(path);
  const report = new Report();
  const { model, assembly } = await loadLlava(join(path, 'hf'), { device, dtype: 'float32' });
  const batch = batchOf(folder, 0, model.input, device);
  if (packed) sayPacked(0, batch);
  const outputs = computeOutputs(model, batch);
  const gradients = computeGradients(model, batch, policy);
  if (values.out !== undefined) {
    await write(values.out, 'outputs.safetensors', outputs);
    await write(values.out, 'gradients.safetensors', gradients);
  }
  await guarded(report, 'generation', () =>
    compareGeneration(report, path, { device, out: values.out }),
  );
  using answers = await readLlavaAnswers(path);
  for (const name of answers.absent) console.log(`${name} is not there: not compared.`);
  compareOutputs(report, answers, outputs, batch);
  compareGradients(report, answers, gradients, model);
  await compareHalf(report, folder, answers, { device, policy });
  await compareLayouts(report, folder, outputs, {
    device,
    dtype: 'float32',
    featureLayer: assembly.config.featureLayer,
    select: assembly.config.projector.select,
    imageTokenId: assembly.config.imageTokenId,
  });
  await compareAdapters(report, folder, answers, device);
  model.dispose();
  return report.print({ mayBeEmpty: values.out !== undefined });
}

async function write(folder: string, name: string, results: Results): Promise<void> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, name);
  await rm(file, { force: true });
  await writeTensorFile(file, results);
}

/** Padded positions of the reference hold whatever came out there: only real ones count. */
function compareOutputs(
  report: Report,
  { outputs }: LlavaAnswers,
  results: Results,
  batch: Batch,
): void {
  for (const [name, expected] of outputs) {
    const actual = results.get(name);
    if (actual === undefined || String(actual.shape) !== String(expected.shape)) {
      const note = actual === undefined ? 'not computed' : `shape [${actual.shape.join(', ')}]`;
      report.add({ quantity: name, error: NaN, note });
      continue;
    }
    const [error, largest] = scope(() => {
      const isRows = name === 'logits' || name.startsWith('hidden.');
      const parts = (x: Tensor): Tensor[] => (isRows ? realRows(x, batch) : [x]);
      const wanted = parts(expected);
      const distance = parts(actual).map((part, i) => part.sub(wanted[i]!).abs().max());
      return [distance, wanted.map((part) => part.abs().max())].map((each) =>
        stack(each).max().item(),
      ) as [number, number];
    });
    report.add({ quantity: name, error, tolerance: TOLERANCE * largest });
  }
}

/** The real positions of padded rows (B, T, C), row by row. */
function realRows(x: Tensor, { sequences }: Batch): Tensor[] {
  return sequences.lengths.map((length, row) => x.select(0, row).narrow(0, 0, length));
}

function compareGradients(
  report: Report,
  { gradients, facts }: LlavaAnswers,
  results: Results,
  model: Llava,
): void {
  const whole = normOf(gradients.values());
  for (const [name, expected] of gradients) {
    const quantity = `gradient of ${name}`;
    const actual = results.get(name);
    if (actual === undefined || String(actual.shape) !== String(expected.shape)) {
      const note = actual === undefined ? 'there is none' : `shape [${actual.shape.join(', ')}]`;
      report.add({ quantity, error: NaN, note });
      continue;
    }
    const error = scope(() => normOf([actual.sub(expected)]));
    const allowed = TOLERANCE * normOf([expected]) + OF_WHOLE_NORM * whole;
    report.add({ quantity, error, tolerance: allowed });
  }
  const { without_gradient: without } = facts;
  if (without === undefined) return;
  const found = [...model.namedParameters().keys()].filter((name) => !results.has(name));
  const differing = [
    ...found.filter((name) => !without.includes(name)),
    ...without.filter((name) => !found.includes(name)),
  ];
  report.add({
    quantity: 'parameters without gradient (names that differ)',
    error: differing.length,
    note: differing.slice(0, 3).join(', '),
  });
}

function normOf(tensors: Iterable<Tensor>): number {
  return scope(() =>
    Math.hypot(...[...tensors].map((tensor) => tensor.linalgVectorNorm(2).item())),
  );
}

/** bf16, no farther from the reference in fp32 than its own bf16, with some room. */
async function compareHalf(
  report: Report,
  folder: LlavaFolder,
  { outputs, gradients, facts }: LlavaAnswers,
  { device, policy }: Pick<ComputeChoice, 'device' | 'policy'>,
): Promise<void> {
  const logits = outputs.get('logits');
  const { bf16, loss: wantedLoss } = facts;
  if (bf16 === undefined) return;
  const { model } = await loadLlava(join(folder.path, 'hf'), { device, dtype: 'bfloat16' });
  const batch = batchOf(folder, 0, model.input, device);
  const results = computeOutputs(model, batch);
  const add = (quantity: string, error: number, own: number | undefined): void => {
    if (own === undefined) console.log(`facts.json: bf16 ${quantity} is not there: not compared.`);
    else report.add({ quantity: `bf16 ${quantity}`, error, tolerance: BF16_FACTOR * own });
  };
  if (logits !== undefined) {
    const difference = scope(() => {
      const wanted = realRows(logits, batch);
      const parts = realRows(results.get('logits')!, batch).map((row, i) => row.sub(wanted[i]!));
      const squares = stack(parts.map((part) => part.square().sum(null)));
      const count = parts.reduce((sum, part) => sum + part.numel, 0);
      return {
        max: stack(parts.map((part) => part.abs().max()))
          .max()
          .item(),
        rms: Math.sqrt(squares.sum(null).item() / count),
      };
    });
    add('logits, largest', difference.max, bf16.logits_max_error);
    add('logits, root mean square', difference.rms, bf16.logits_rms_error);
  }
  if (wantedLoss !== undefined && bf16.loss !== undefined) {
    const loss = results.get('loss')!.item();
    // The reference's own loss may be right by chance. Independent errors of the logits of N tokens leave about this much.
    const byChance = (bf16.logits_rms_error ?? 0) * Math.sqrt(2 / batch.counts.supervised);
    const own = Math.max(Math.abs(bf16.loss - wantedLoss), byChance);
    add('loss', Math.abs(loss - wantedLoss), own);
  }
  if (gradients.size > 0) {
    const half = computeGradients(model, batch, policy);
    const error = scope(() =>
      normOf([...gradients].map(([name, expected]) => half.get(name)?.sub(expected) ?? expected)),
    );
    add('gradients', error / normOf(gradients.values()), bf16.gradient_relative_error);
  }
  model.dispose();
}

/** Where the model lies in other layouts, and what is named beside each. */
function layoutsOf(path: string): [title: string, source: string, parts: Parts][] {
  const inside = (name: string): string => join(path, name);
  const llm = inside('llm');
  const projector = inside('xtuner/projector');
  const pth = inside('xtuner/iter_100.pth');
  const whole = ['hf-old', 'hf-2025', 'hf-2026', 'official'];
  return [
    ...whole.map((name): [string, string, Parts] => [name, inside(name), {}]),
    ...['clip', 'clip-full'].flatMap((tower): [string, string, Parts][] => {
      const vision = inside(tower);
      return [
        [`llm + ${tower} + projector`, llm, { vision, projector }],
        [`xtuner .pth + llm + ${tower}`, pth, { vision, llm }],
      ];
    }),
  ];
}

/** Folders by the option that names them. */
type Parts = Partial<Record<'llm' | 'vision' | 'projector', string>>;

/** The same numbers under other names give the same logits, to the bit. */
async function compareLayouts(
  report: Report,
  folder: LlavaFolder,
  outputs: Results,
  options: LoadOptions,
): Promise<void> {
  for (const [title, source, parts] of layoutsOf(folder.path)) {
    if (![source, ...Object.values(parts)].every((file) => existsSync(file))) {
      console.log(`${title} is not there: not compared.`);
      continue;
    }
    const quantity = `logits of layout ${title}`;
    await guarded(report, quantity, async () => {
      const { model } = await loadLlava(source, { ...options, ...parts });
      const batch = batchOf(folder, 0, model.input, options.device!);
      const logits = computeOutputs(model, batch).get('logits')!;
      report.add({
        quantity,
        error: scope(() => logits.sub(outputs.get('logits')!).abs().max().item()),
      });
      model.dispose();
    });
  }
}

/** The first loss of each adapter's training is that of the adapter as given. */
async function compareAdapters(
  report: Report,
  folder: LlavaFolder,
  { facts }: LlavaAnswers,
  device: Device,
): Promise<void> {
  const { settings, runs = {} } = facts.trajectories ?? {};
  // The first update takes the first micro-batches, and begins again where there are fewer.
  const indices = Array.from(
    { length: settings?.accumulate ?? 2 },
    (_, i) => i % microBatchCount(folder),
  );
  for (const [run, { losses }] of Object.entries(runs)) {
    const adapter = join(folder.path, `adapter-${run}-start`);
    if (!existsSync(adapter)) continue;
    const first = losses?.[0];
    if (first === undefined) {
      console.log(`facts.json: losses of ${run} is not there: not compared.`);
      continue;
    }
    const quantity = `loss with adapter ${run}`;
    await guarded(report, quantity, async () => {
      const { model } = await loadLlava(join(folder.path, 'hf'), {
        device,
        dtype: 'float32',
        adapters: [adapter],
      });
      const parts = indices.map((i) => computeLoss(model, batchOf(folder, i, model.input, device)));
      const loss =
        parts.reduce((sum, part) => sum + part.sum, 0) /
        parts.reduce((sum, part) => sum + part.count, 0);
      const tolerance = 2e-5 * Math.max(first, 0.1);
      report.add({ quantity, error: Math.abs(loss - first), tolerance });
      model.dispose();
    });
  }
}

/** A layout that cannot be loaded fails its row, and the others are still compared. */
async function guarded(report: Report, quantity: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof PatinaError)) throw error;
    report.add({ quantity, error: NaN, note: `${error.code}: ${error.message}` });
  }
}
