/**
 * The same weights and the same batch as the peer's give the same loss and the same norm of the gradient: what is compared in
 * `bench/train.ts` is the same work. `bench/gpu/same_work.py` writes the folder.
 *
 *     node dist/bench/same-work.js FOLDER [--policy keep] [--device cuda:0]
 *
 * Everything but the tower trains (`full`), or a LoRA and the projector. Exit code 1 where they differ by more than the rounding of the
 * type that the peer computed in.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { batchOf, readLlavaFolder } from '../parity/llava-folder.js';
import { finish, laySideBySide, loadLlava } from '../src/models/index.js';
import { AdamW, Gate, schedule } from '../src/optim/index.js';
import { emptyCache, type Device, type DType } from '../src/torch/index.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { runUpdate } from '../src/train/step/update.js';
import { runBench } from './command.js';
import { readPolicies } from './training-row.js';

interface Answer {
  readonly loss: number;
  readonly norm: number;
}

type Answers = Readonly<Record<'full' | 'lora', Answer>> & { readonly dtype: DType };

/** Relative, by type. */
const TOLERANCES: Partial<Record<DType, Answer>> = {
  float32: { loss: 1e-5, norm: 1e-4 },
  bfloat16: { loss: 1e-3, norm: 2e-2 },
};

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    policy: { type: 'string', default: 'keep' },
    device: { type: 'string', default: 'cuda:0' },
  },
});
const device = flags.device as Device;

await runBench(async () => {
  const policies = readPolicies(flags.policy);
  const [path = '.'] = positionals;
  const answers = JSON.parse(readFileSync(join(path, 'same-work.json'), 'utf8')) as Answers;
  for (const mode of ['full', 'lora'] as const) {
    for (const policy of policies) {
      const own = await lossAndNorm(path, mode, { dtype: answers.dtype, policy });
      const apart = (what: keyof Answer): number => Math.abs(own[what] / answers[mode][what] - 1);
      const allowed = TOLERANCES[answers.dtype]!;
      const good = apart('loss') <= allowed.loss && apart('norm') <= allowed.norm;
      if (!good) process.exitCode = 1;
      const both = ({ loss, norm }: Answer): string =>
        `loss=${loss.toFixed(6)} norm=${norm.toFixed(6)}`;
      console.log(
        `PEER ${mode} ${answers.dtype} ${both(answers[mode])}  PATINA ${policy} ${both(own)}  apart ${apart('loss').toExponential(1)} ${apart('norm').toExponential(1)}  ${good ? 'ok' : 'FAIL'}`,
      );
    }
  }
});

/** Of the first update, whose learning rate is 0. */
async function lossAndNorm(
  path: string,
  mode: 'full' | 'lora',
  { dtype, policy }: { dtype: DType; policy: ReturnType<typeof readPolicies>[number] },
): Promise<Answer> {
  using folder = await readLlavaFolder(path);
  const { model } = await loadLlava(join(path, 'hf'), {
    ...{ device, dtype },
    ...(mode === 'lora' && { adapters: [join(path, 'adapter')], adapterDtype: dtype }),
  });
  laySideBySide(model);
  const trains = (name: string): boolean =>
    mode === 'full'
      ? !name.includes('vision_tower')
      : name.includes('.lora_') || name.includes('multi_modal_projector');
  const parameters = new Map([...model.namedParameters()].filter(([name]) => trains(name)));
  for (const parameter of parameters.values()) parameter.requiresGrad_();
  const randomness = new Randomness(0);
  const optimizer = new AdamW([{ name: 'all', parameters, learningRate: 0 }], { master: 'none' });
  const store = new AccumulatingStore({ model, optimizer, gate: new Gate(device), randomness });
  const setup = {
    ...{ model, device, store, randomness },
    policies: memoryPolicies(model.segments, { policy }),
    schedule: schedule({ updates: 1 }),
  };
  const batch = batchOf(folder, 0, model.input, device);
  const { numbers, supervised } = finish(runUpdate(setup, 0, [batch]));
  const { lossSum, norm } = numbers.read();
  store.dispose();
  model.dispose();
  emptyCache(device);
  return { loss: lossSum[0]! / supervised, norm: norm[0]! };
}
