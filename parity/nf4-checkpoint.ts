/** A decoder that transformers quantised with bitsandbytes and saved: its logits, its weights, and its keys when Patina writes them. */
import { join } from 'node:path';

import {
  exportModel,
  finish,
  forward,
  loadTextModel,
  makeBatch,
  readTensorFile,
  type TextModel,
} from '../src/models/index.js';
import { linearsOf, Nf4Weight, quantiseNf4 } from '../src/nn/index.js';
import { type Device, noGrad, scope, type Tensor } from '../src/torch/index.js';
import type { Report } from './report.js';
import { differing, distance } from './tensors.js';

/** Of the largest logit. */
const LOGITS_TOLERANCE = 1e-4;

export interface Nf4Checkpoint {
  readonly name: string;
  readonly path: string;
  /** Folder that Patina is to write it to. */
  readonly written: string;
  readonly device: Device;
}

export async function compareNf4Checkpoint(
  report: Report,
  { name, path, written, device }: Nf4Checkpoint,
): Promise<void> {
  const parity = await readTensorFile(join(path, 'parity.safetensors'));
  const rows: Row[] = [
    { source: path, what: name },
    { source: written, what: `${name}, written by Patina` },
  ];
  try {
    for (const { source, what } of rows) {
      const { model, assembly } = await loadTextModel(source, { device, dtype: 'float32' });
      try {
        scope(() => compareModel(report, { model, parity, what, isStored: source === path }));
      } finally {
        model.dispose();
      }
      if (source !== path) continue;
      const doubleQuantised = [...assembly.tensors.values()].some(
        ({ form }) => form?.name === 'nf4' && form.doubleQuantised,
      );
      await exportModel(path, 'hf', written, { quantise: { doubleQuantised }, replace: true });
      await compareKeys(report, { name, path, written });
    }
  } finally {
    for (const tensor of parity.values()) tensor.dispose();
  }
}

interface Row {
  readonly source: string;
  readonly what: string;
}

interface Compared {
  readonly model: TextModel;
  readonly parity: ReadonlyMap<string, Tensor>;
  readonly what: string;
  readonly isStored: boolean;
}

function compareModel(report: Report, { model, parity, what, isStored }: Compared): void {
  const error = distance(logitsOf(model, parity.get('input_ids')!), parity.get('logits_float32')!);
  report.add({ quantity: `${what}: logits`, error, tolerance: LOGITS_TOLERANCE });
  if (!isStored) return;
  let [values, codes, count] = [0, 0, 0];
  for (const [name, { base, weight }] of linearsOf(model)) {
    if (!(base instanceof Nf4Weight)) continue;
    const stored = parity.get(`${name}.dequantised`)!;
    values += differing(base.dense().to(stored.dtype).to('cpu'), stored);
    const original = parity.get(`${name}.original`);
    count += 1;
    if (original === undefined) continue;
    const { packed } = quantiseNf4(original.to(weight.device), { doubleQuantised: false });
    codes += differing(packed.to('cpu'), weight.to('cpu'));
  }
  const matrices = `${what}: ${count} matrices`;
  report.add({ quantity: `${matrices} dequantised (elements that differ)`, error: values });
  report.add({ quantity: `${matrices} quantised anew (bytes that differ)`, error: codes });
  report.add({ quantity: `${what}: matrices in NF4, fewer than 1`, error: count > 0 ? 0 : 1 });
}

/** Logits of rows of token ids (B, T): (B, T, V). */
function logitsOf(model: TextModel, ids: Tensor): Tensor {
  return noGrad(() =>
    scope(() => {
      const rows = ids.toArray() as number[][];
      const samples = rows.map((row) => ({
        inputIds: Int32Array.from(row, Number),
        labels: Int32Array.from(row, Number),
        images: [],
      }));
      const batch = makeBatch(samples, model.input, {
        device: model.decoder.embedTokens.weight.device,
      });
      const x = finish(forward(model, model.inputs(batch)));
      const logits = model.head.logits(x.flatten(0, 1)).to('cpu');
      return logits.view([ids.shape[0]!, ids.shape[1]!, logits.shape[1]!]);
    }),
  );
}

/** Everything under the same keys with the same bytes; the states mean the same. */
async function compareKeys(
  report: Report,
  { name, path, written }: Pick<Nf4Checkpoint, 'name' | 'path' | 'written'>,
): Promise<void> {
  const [theirs, ours] = [
    await readTensorFile(join(path, 'model.safetensors')),
    await readTensorFile(join(written, 'model.safetensors')),
  ];
  const keys = new Set([...theirs.keys(), ...ours.keys()]);
  const unequal = [...keys].filter((key) => !sameTensor(key, theirs.get(key), ours.get(key)));
  const note = unequal.slice(0, 3).join(', ');
  const quantity = `${name}, written by Patina: tensors that differ`;
  report.add({ quantity, error: unequal.length, note });
  for (const tensor of [...theirs.values(), ...ours.values()]) tensor.dispose();
}

function sameTensor(key: string, theirs: Tensor | undefined, ours: Tensor | undefined): boolean {
  if (theirs === undefined || ours === undefined) return false;
  if (!key.includes('.quant_state.')) {
    // The codes may be stored as if they were of another type.
    return Buffer.from(theirs.toBytes()).equals(ours.toBytes());
  }
  const meaning = (tensor: Tensor): string => {
    const state = JSON.parse(Buffer.from(tensor.toBytes()).toString()) as Record<string, unknown>;
    return JSON.stringify(Object.entries(state).sort(([a], [b]) => (a < b ? -1 : 1)));
  };
  return meaning(theirs) === meaning(ours);
}
