import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import {
  type Batch,
  exportModel,
  finish,
  forward,
  loadTextModel,
  makeBatch,
  readTensorFile,
  type TextModel,
} from '../../models/index.js';
import { unpadRows } from '../../models/padded.js';
import { AdamW, Gate } from '../../optim/index.js';
import { full, liveTensors, noGrad, scope, type Tensor, tensorsIn } from '../../torch/index.js';
import { AccumulatingStore } from './accumulating-store.js';
import { memoryPolicies } from './memory-policy.js';
import { Randomness } from './randomness.js';
import { runMicroBatch } from './step.js';

const FAMILIES = ['qwen2', 'qwen3', 'qwen3-tied'] as const;
const folderOf = (name: string): string =>
  join(packageRoot(), 'test', 'fixtures', 'decoders', name);

/** The stored batch: two rows, of which the second ends before the first does. */
function storedBatch(model: TextModel, ids: Tensor): Batch {
  return scope(() => {
    const real = ids.fullLike(1);
    real.select(0, 1).narrow(0, 9, 3).zero_();
    const labels = ids.maskedFill(real.lt(1), -100);
    const rows = { inputIds: ids, attentionMask: real, labels, pixelValues: null };
    return makeBatch(unpadRows(rows, model.input), model.input);
  });
}

/** The largest difference, as a part of the largest number. */
const away = (a: Tensor, b: Tensor): number =>
  scope(() => a.sub(b).abs().amax([]).item() / b.abs().amax([]).item());

test.each(FAMILIES)('%s: logits and gradients are those of transformers', async (name) => {
  const live = liveTensors();
  const answers = await readTensorFile(join(folderOf(name), 'answers.safetensors'));
  const { model } = await loadTextModel(folderOf(name));
  const batch = storedBatch(model, answers.get('input_ids')!);
  noGrad(() =>
    scope(() => {
      const x = finish(forward(model, model.inputs(batch)));
      expect(away(model.head.logits(x.flatten(0, 1)), answers.get('logits')!)).toBeLessThan(1e-5);
    }),
  );
  for (const parameter of model.parameters()) parameter.requiresGrad_();
  for (const policy of ['keep', 'recompute'] as const) {
    const randomness = new Randomness(0);
    const gate = new Gate('cpu');
    const store = new AccumulatingStore({ model, optimizer: new AdamW([]), gate, randomness });
    scope(() => {
      const policies = memoryPolicies(model.segments, { policy });
      const lossFactor = full([], 1 / batch.counts.supervised);
      const step = { model, store, policies, lossFactor, randomness };
      finish(runMicroBatch(step, batch, 0))!.dispose();
      const names = [...model.namedParameters().keys()];
      expect(names.map((each) => `gradient.${each}`).sort()).toEqual(
        [...answers.keys()].filter((each) => each.startsWith('gradient.')).sort(),
      );
      for (const each of names) {
        const wanted = answers.get(`gradient.${each}`)!;
        expect(away(store.gradients.get(each)!, wanted), each).toBeLessThan(2e-5);
      }
    });
    store.dispose();
    gate.dispose();
  }
  model.dispose();
  for (const tensor of [...answers.values(), ...tensorsIn(batch)]) tensor.dispose();
  expect(liveTensors()).toBeLessThanOrEqual(live);
});

test.each(FAMILIES)('%s: what is written is what transformers wrote', async (name) => {
  const root = mkdtempSync(join(tmpdir(), 'patina-decoder-'));
  try {
    const out = join(root, 'out');
    await exportModel(folderOf(name), 'hf', out);
    const read = (folder: string, file: string): Buffer => readFileSync(join(folder, file));
    expect(read(out, 'model.safetensors').equals(read(folderOf(name), 'model.safetensors'))).toBe(
      true,
    );
    const [written, wanted] = [out, folderOf(name)].map(
      (folder) => JSON.parse(read(folder, 'config.json').toString()) as Record<string, unknown>,
    );
    expect(written).toEqual(wanted);
  } finally {
    rmSync(root, { recursive: true });
  }
});
