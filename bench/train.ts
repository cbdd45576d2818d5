/**
 * Tokens and samples per second, and peak memory, of training steps on shapes of LLaVA with random bf16 weights, one row per setting;
 * `bench/gpu/step.sh` runs the peer (transformers + peft) beside it.
 *
 *     node dist/bench/train.js [--cases 4x2048] [--modes lora,full,full-ub] [--policies recompute,attention,products,keep,offload]
 *                              [--bases bf16,nf4,fp8] [--states mode,float32,bfloat16,int8] [--products 0] [--layers 32] [--hidden 4096] [--dropout 0] [--steps 6] [--device cuda:0]
 *                              [--profile FOLDER] [--json]
 *
 * Cases, with commas between (a picture of 576 tokens in each record, if not said otherwise):
 *
 *     BxS               B records of S tokens on LLaVA-Llama-3-8B: 4x2048, 2x4096
 *     text-BxS          the decoder alone: text-2x4096, text-1x8192, text-16x512
 *     llava15-BxS       LLaVA-1.5-7B: as many heads for keys as for queries (llava15: 4x2048)
 *     one-N             updates of 16 micro-batches of one record of N tokens: one-600
 *     mix, mix-N        256 records of mixed length, best-fit into micro-batches of 8,192 tokens, each an update; of N records each
 *     stage1-16, -32    captions of 20 to 80 tokens, so many to an update (stage1: both); meant for `projector`
 *
 * Modes: `lora` (r 16 on all linears of the decoder, and the projector), `projector`, `full`
 * (all but the tower). Weights, gradients and Adam's moments are bf16, like the peer's; `full-fp32` has masters and moments in fp32, `full-stochastic` moments in fp32
 * and weights rounded at random; `-ub` behind any of these updates in backward.
 *
 * Bases: `nf4` holds the frozen matrices of the decoder's blocks in NF4, scales in 8 bits (QLoRA, with `lora`), `fp8` in e4m3 with a scale for each row. States: the type of Adam's
 * moments; `mode` is that of the mode. Both stand in a row's name where they are others than the first of these.
 *
 * `--products N`: the last N decoder blocks keep that level, whatever the policy of the others.
 *
 * `--profile FOLDER`: after a row one more round of its updates is profiled; where their time goes is printed, and the trace lies in the
 * folder under the row's name.
 *
 * A first round of all shapes is not timed. A row that fails says why, and the next one begins.
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { OutOfMemoryError } from '../src/base/errors.js';
import { profileLines } from '../src/cli/train-view/profile-lines.js';
import type { Device } from '../src/torch/index.js';
import { UpdateRecorder } from '../src/train/profile/update-recorder.js';
import type { StepProfile } from '../src/train/index.js';
import { readCases } from './cases.js';
import { runBench } from './command.js';
import { llava15, llava8b } from './shapes.js';
import {
  measureRow,
  readBases,
  readModes,
  readPolicies,
  readStates,
  type RowOptions,
} from './training-row.js';

const { values: flags } = parseArgs({
  options: {
    cases: { type: 'string', default: '4x2048' },
    modes: { type: 'string', default: 'lora,full,full-ub' },
    policies: { type: 'string', default: 'recompute,attention,products,keep' },
    bases: { type: 'string', default: 'bf16' },
    states: { type: 'string', default: 'mode' },
    products: { type: 'string', default: '0' },
    dropout: { type: 'string', default: '0' },
    layers: { type: 'string', default: '32' },
    steps: { type: 'string', default: '6' },
    device: { type: 'string', default: 'cuda:0' },
    hidden: { type: 'string', default: '4096' },
    profile: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});

await runBench(async () => {
  const cases = readCases(flags.cases);
  const modes = readModes(flags.modes);
  const policies = readPolicies(flags.policies);
  const bases = readBases(flags.bases);
  const types = readStates(flags.states);
  for (const of of cases)
    for (const mode of modes)
      for (const base of bases)
        for (const states of types)
          for (const policy of policies) await row({ of, mode, base, states, policy });
});

type Row = Required<Pick<RowOptions, 'of' | 'mode' | 'base' | 'states' | 'policy'>>;

async function row({ of, mode, base, states, policy }: Row): Promise<void> {
  const shape = of.shape === 'vicuna' ? llava15 : llava8b;
  const config = shape({ layers: Number(flags.layers), hidden: Number(flags.hidden) });
  const products = Number(flags.products);
  const kept = [...(base === 'bf16' ? [] : [base]), ...(states === 'mode' ? [] : [states])];
  const level = `${policy}${products > 0 ? `+${products}products` : ''}`;
  const name = [of.name, mode, ...kept, level].join(' ');
  const title = `PATINA ${name}`;
  const device = flags.device as Device;
  const folder = flags.profile;
  let profile: Promise<StepProfile> | undefined;
  const record = (round: () => void): void => {
    const recorder = new UpdateRecorder(device);
    try {
      round();
    } catch (error) {
      recorder.discard();
      throw error;
    }
    profile = recorder.stop(join(folder!, `${name.replaceAll(' ', '-')}.json.gz`));
  };
  try {
    const measured = measureRow({
      ...{ of, mode, base, states, policy, products, config, device },
      ...(folder === undefined ? {} : { record }),
      steps: Number(flags.steps),
      dropout: Number(flags.dropout),
      say: (line) => process.stderr.write(`${line}\n`),
    });
    const { samplesPerSecond, tokensPerSecond, peakGiB, reservedGiB, weightsGiB } = measured;
    const { stepMs, queuedMs, spread, loss } = measured;
    console.log(
      flags.json
        ? JSON.stringify(measured)
        : `${title} samples/s=${samplesPerSecond} tok/s=${tokensPerSecond} peak=${peakGiB}GiB reserved=${reservedGiB}GiB weights=${weightsGiB}GiB step=${stepMs}ms queued=${queuedMs}ms spread=${spread} loss=${loss}`,
    );
    if (profile === undefined) return;
    const report = await profile;
    console.log(
      flags.json
        ? JSON.stringify({ profile: report })
        : profileLines(report)
            .map((line) => `PROFILE ${line}`)
            .join('\n'),
    );
  } catch (error) {
    const failed =
      error instanceof OutOfMemoryError ? 'out of memory' : `failed: ${(error as Error).message}`;
    console.log(
      flags.json
        ? JSON.stringify({ case: of.name, mode, base, states, policy, failed })
        : `${title} ${failed}`,
    );
  }
}
