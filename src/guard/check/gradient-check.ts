/**
 * The gradient of a few records: whether everything that trains gets one, and the same however the batch is cut. Updates are made at a
 * learning rate of 0.
 */
import type { Recipe } from '../../config/index.js';
import type { LoadedSample } from '../../data/index.js';
import { drive, makeBatch, type Batch } from '../../models/index.js';
import { hold, noGrad, scope, type Tensor } from '../../torch/index.js';
import type { PreparedRun } from '../../train/prepare/prepare-run.js';
import { makeUpdateSetup } from '../../train/prepare/run-setup.js';
import { runUpdate } from '../../train/step/update.js';
import { finding, type Finding } from './finding.js';
import { isVisual } from './open-hollow.js';

/** How far gradients may lie apart that are sums of the same in another order. */
const TOLERANCE = { float32: 1e-3, bfloat16: 0.1, float16: 0.05 } as const;

/** @param samples a few records, as one batch and one by one */
export async function gradientFindings(
  recipe: Recipe,
  prepared: PreparedRun,
  samples: readonly LoadedSample[],
): Promise<Finding[]> {
  const { precision } = prepared;
  const whole = await gradients(recipe, prepared, [samples]);
  const findings = deadFindings(
    whole,
    samples.some(({ images }) => images.length > 0),
    prepared,
  );
  const cut = await gradients(
    recipe,
    prepared,
    samples.map((sample) => [sample]),
  );
  const apart = Math.abs(cut.norm - whole.norm) / Math.max(whole.norm, Number.MIN_VALUE);
  const tolerance = TOLERANCE[precision.compute as keyof typeof TOLERANCE];
  if (samples.length > 1 && !(apart <= tolerance)) {
    findings.push(
      finding('accumulation-weights', {
        code: 'accumulation',
        message: `${samples.length} records at once give a gradient of norm ${whole.norm.toPrecision(4)}, accumulated one by one ${cut.norm.toPrecision(4)}: they should be the same`,
        fix: 'Train with `accumulate: 1`, and report it: this is a fault of Patina.',
      }),
    );
  }
  return findings;
}

interface Gradients {
  readonly norm: number;
  /** By parameter. */
  readonly norms: ReadonlyMap<string, number>;
}

/** Of an update that changes nothing. */
async function gradients(
  recipe: Recipe,
  { opened: { model }, device, precision, plan, batching, trainable }: PreparedRun,
  parts: readonly (readonly LoadedSample[])[],
): Promise<Gradients> {
  const made = makeUpdateSetup({ recipe, plan, batching, device, precision, model, trainable });
  const setup = { ...made, schedule: () => 0 };
  try {
    using batches = hold(() =>
      noGrad(() =>
        parts.map((part): Batch => makeBatch(part, model.input, { device: device.device })),
      ),
    );
    const { numbers, tensorNames } = await drive(runUpdate(setup, 0, batches.value));
    const { norm, tensorNorms } = numbers.read();
    return {
      norm: norm[0]!,
      norms: new Map(tensorNames.map((name, i) => [name, tensorNorms[i]!])),
    };
  } finally {
    setup.store.dispose();
    setup.lossScale?.dispose();
    setup.clip?.dispose();
  }
}

/** What trains and gets no gradient, without a reason for it. */
function deadFindings(
  { norms }: Gradients,
  pictures: boolean,
  { trainable }: PreparedRun,
): Finding[] {
  const none = (name: string): boolean =>
    !((norms.get(name) ?? 0) > 0 || Number.isNaN(norms.get(name)));
  // A block that adds nothing yet learns in its last matrix first.
  const isBehindZeros = (name: string): boolean => {
    const last = endsOf(name).find((each) => !none(each));
    return last !== undefined && isZero(trainable.parameters.get(last)!);
  };
  const excused = (name: string): boolean => {
    if (!pictures && isVisual({ name })) return true;
    // A new adapter's second factor is 0, so that its first has no gradient before the first update.
    if (/lora_A|lora_embedding_A/.test(name)) {
      return !none(name.replace(/lora_(embedding_)?A/, 'lora_$1B'));
    }
    if (isBehindZeros(name)) return true;
    // The softmax of attention does not change with it.
    return name.endsWith('k_proj.bias');
  };
  const dead = [...trainable.parameters.keys()].filter((name) => none(name) && !excused(name));
  if (dead.length === 0) return [];
  const more = dead.length > 3 ? `, and ${dead.length - 3} more` : '';
  return [
    finding('no-gradient', {
      code: 'no-gradient',
      count: dead.length,
      message: `${dead.length} of ${trainable.parameters.size} tensors that train get no gradient: ${dead.slice(0, 3).join(', ')}${more}`,
      fix: 'See that nothing after them is 0 (weights that were never loaded, an adapter whose factors are both 0), or freeze them (`train`).',
    }),
  ];
}

/** The matrices by which the attention or the MLP that a parameter belongs to may end, and add to the stream. */
function endsOf(name: string): string[] {
  const [, block, inner] = /^(.*\blayers\.\d+\.)(.*)$/.exec(name) ?? [];
  if (block === undefined) return [];
  const ends = /^(self_attn|input_layernorm|layer_norm1)\b/.test(inner!)
    ? ['self_attn.o_proj', 'self_attn.out_proj']
    : ['mlp.down_proj', 'mlp.fc2'];
  return ends.map((each) => `${block}${each}.weight`);
}

function isZero(parameter: Tensor): boolean {
  return noGrad(() => scope(() => parameter.abs().amax([]).item() === 0));
}
