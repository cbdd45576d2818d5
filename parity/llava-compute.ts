/**
 * What Patina computes of a micro-batch, under the names of the reference: features, hidden states, logits, loss, gradients.
 * Gradients come from the very step program that trains.
 */
import { finish, forward, type Batch, type Llava, type Segment } from '../src/models/index.js';
import { AdamW, Gate } from '../src/optim/index.js';
import { cat, full, noGrad, scope, type Tensor, zeros } from '../src/torch/index.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies, type MemoryPolicy } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { runMicroBatch } from '../src/train/step/step.js';

/** Tensors on the CPU in fp32, owned by the caller. */
export type Results = Map<string, Tensor>;

/**
 * `logits` and `hidden.i` as padded rows with zeros behind each, `image_features`, `tower_hidden.i` of the whole tower, `loss`.
 */
export function computeOutputs(model: Llava, batch: Batch): Results {
  return noGrad(() =>
    scope(() => {
      const results: Results = new Map();
      const keep = (name: string, x: Tensor): void => {
        results.set(name, x.to({ dtype: 'float32', device: 'cpu' }).contiguous());
      };
      const inputs = model.inputs(batch);
      const seen = ({ name }: Segment, x: Tensor): void => {
        if (name === 'projector') keep('image_features', x.flatten(0, 1));
        const state = stateNumber(name, 'vision', 'vision.embeddings');
        if (state !== undefined) keep(`tower_hidden.${state}`, x);
        if (state === model.config.featureLayer) aboveSelected(model, x, state, keep);
        const hidden = stateNumber(name, 'decoder', 'embedding');
        if (hidden === undefined) return;
        const isLast = hidden === model.config.text.numHiddenLayers;
        keep(`hidden.${hidden}`, padded(isLast ? model.decoder.norm.forward(x) : x, batch));
      };
      const x = finish(forward(model, inputs, { seen }));
      keep('logits', padded(model.head.logits(x.flatten(0, 1)).unsqueeze(0), batch));
      const { losses } = model.head.losses(x, batch.supervised);
      keep('loss', losses.sum(null).div(batch.counts.supervised));
      return results;
    }),
  );
}

/** d loss / d parameter for every parameter that the loss depends on. */
export function computeGradients(model: Llava, batch: Batch, policy: MemoryPolicy): Results {
  const { device } = batch.inputIds;
  const randomness = new Randomness(0);
  const gate = new Gate(device);
  const store = new AccumulatingStore({ model, optimizer: new AdamW([]), gate, randomness });
  for (const parameter of model.parameters()) parameter.requiresGrad_();
  try {
    return scope(() => {
      const lossFactor = full([], 1, { device });
      const policies = memoryPolicies(model.segments, { policy });
      const step = { model, store, policies, lossFactor, randomness };
      finish(runMicroBatch(step, batch, 0))!.dispose();
      const count = batch.counts.supervised;
      return new Map(
        [...store.gradients].map(([name, sum]) => [
          name,
          sum.div(count).to({ dtype: 'float32', device: 'cpu' }),
        ]),
      );
    });
  } finally {
    for (const parameter of model.parameters()) parameter.requiresGrad_(false);
    store.dispose();
  }
}

/** The sum of the token losses, and their number. */
export function computeLoss(model: Llava, batch: Batch): { sum: number; count: number } {
  return noGrad(() =>
    scope(() => {
      const inputs = model.inputs(batch);
      const { losses } = model.head.losses(finish(forward(model, inputs)), batch.supervised);
      return { sum: losses.sum(null).item(), count: batch.counts.supervised };
    }),
  );
}

/** Hidden state i is what block i - 1 gives, 0 what comes before the blocks. */
function stateNumber(segment: string, stack: string, first: string): number | undefined {
  if (segment === first) return 0;
  const block = segment.startsWith(`${stack}.`) ? Number(segment.slice(stack.length + 1)) : NaN;
  return Number.isInteger(block) ? block + 1 : undefined;
}

/** The states that the model itself never computes. */
function aboveSelected(
  { vision }: Llava,
  x: Tensor,
  state: number,
  keep: (name: string, x: Tensor) => void,
): void {
  vision.blocks.slice(state).reduce((below, block, i) => {
    const above = block.forward(below);
    keep(`tower_hidden.${state + i + 1}`, above);
    return above;
  }, x);
}

/** Packed sequences (1, T, C) as padded rows (B, longest, C). */
function padded(x: Tensor, { sequences }: Batch): Tensor {
  const { lengths, longest } = sequences;
  const rows = x.squeeze(0).splitWithSizes(lengths);
  return cat(
    rows.map((row, i) => {
      const rest = zeros([longest - lengths[i]!, row.size(1)], {
        dtype: row.dtype,
        device: row.device,
      });
      return cat([row, rest]).unsqueeze(0);
    }),
  );
}
