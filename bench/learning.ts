/**
 * What numbers of few bits cost of the loss: the quickstart's two stages on a decoder of LLaVA-Llama-3-8B's widths. The first stage trains
 * all of it, with Adam's moments in each type; over what it left, the second trains LoRA with the decoder's matrices in each form.
 *
 *     node dist/bench/learning.js [--updates 300] [--layers 2] [--hidden 4096] [--states bf16,int8] [--bases bf16,nf4,fp8]
 *                                 [--learning-rates 2e-4,5e-4] [--device cuda:0] [--json]
 *
 * Weights are new, the tower is the quickstart's. Each line has the mean loss of all updates and the loss on records held out, and how far both lie above the
 * first of its stage. What is held out is learned to almost nothing by models of this width, so that the mean of all says more. Models lie in the system's
 * folder for temporary files, some 3 GB, and are removed.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkRecipe, type RecipeInput } from '../src/config/index.js';
import { prepareQuickstart } from '../src/recipes/quickstart/prepare.js';
import { quickstart, quickstartQuestions } from '../src/recipes/quickstart/recipes.js';
import { train } from '../src/train/index.js';
import { namesOf, runBench } from './command.js';
import { llava8bJson } from './shapes.js';

const { values: flags } = parseArgs({
  options: {
    updates: { type: 'string', default: '300' },
    layers: { type: 'string', default: '2' },
    hidden: { type: 'string', default: '4096' },
    states: { type: 'string', default: 'bf16,int8' },
    bases: { type: 'string', default: 'bf16,nf4,fp8' },
    'learning-rates': { type: 'string', default: '2e-4,5e-4' },
    device: { type: 'string', default: 'cuda:0' },
    json: { type: 'boolean', default: false },
  },
});

interface Learned {
  /** Mean of all updates. */
  readonly mean: number;
  readonly heldOut: number;
  readonly checkpoint: string;
}

await runBench(async () => {
  const states = namesOf('type of states', flags.states, ['fp32', 'bf16', 'int8']);
  const bases = namesOf('base', flags.bases, ['bf16', 'nf4', 'fp8']);
  const [fullRate, loraRate] = flags['learning-rates'].split(',').map(Number) as [number, number];
  const root = await mkdtemp(join(tmpdir(), 'patina-learning-'));
  try {
    const data = join(root, 'data');
    await prepareQuickstart(data);
    const common = {
      data: { sources: [join(data, 'captions.json'), join(data, 'questions.json')], workers: 1 },
      validation: { fraction: 0.05, everyUpdates: Number(flags.updates) },
      schedule: { updates: Number(flags.updates), warmupUpdates: 30 },
      ...{ batchSize: 16, checkpoints: { everyUpdates: 100_000, keep: 1 } },
      precision: { compute: flags.device === 'cpu' ? 'fp32' : 'bf16' },
      ...{ device: flags.device, text: { maxLength: 192 }, image: { mode: 'crop' } },
      memory: { policy: 'keep' },
      run: { root: join(root, 'runs') },
    } as const satisfies Partial<RecipeInput>;
    const first: [string, Learned][] = [];
    for (const type of states) {
      const recipe = {
        ...common,
        name: `full-${type}`,
        model: { config: shape(), tokenizer: join(data, 'tokenizer') },
        train: quickstart.train!,
        precision: { ...common.precision, master: 'fp32', states: type },
        optimizer: { ...quickstart.optimizer, learningRate: fullRate },
      } satisfies RecipeInput;
      first.push([`all of it, states ${type}`, await learn(recipe)]);
      tell(first);
    }
    const second: [string, Learned][] = [];
    for (const base of bases) {
      const recipe = {
        ...common,
        name: `lora-${base}`,
        model: { from: first[0]![1].checkpoint },
        train: {
          ...quickstartQuestions.train,
          decoder: { lora: { rank: 16, alpha: 32 }, ...(base === 'bf16' ? {} : { base }) },
        },
        optimizer: { learningRate: loraRate },
      } satisfies RecipeInput;
      second.push([`LoRA, base ${base}`, await learn(recipe)]);
      tell(second);
    }
  } finally {
    await rm(root, { recursive: true });
  }
});

/** The quickstart's model with a decoder of other widths. */
function shape(): Record<string, unknown> {
  const { config } = quickstart.model as {
    config: { text_config: object; image_token_index: number };
  };
  const { vocab_size } = config.text_config as { vocab_size: number };
  const { text_config: wide } = llava8bJson({
    layers: Number(flags.layers),
    hidden: Number(flags.hidden),
  });
  return { ...config, text_config: { ...wide, vocab_size, tie_word_embeddings: false } };
}

async function learn(recipe: RecipeInput): Promise<Learned> {
  const losses: number[] = [];
  for await (const event of train(checkRecipe(recipe))) {
    if (event.type === 'update' && event.loss !== null) losses.push(event.loss);
    if (event.type !== 'end') continue;
    return {
      mean: losses.reduce((sum, each) => sum + each, 0) / losses.length,
      heldOut: event.validationLoss!,
      checkpoint: event.checkpoint!,
    };
  }
  throw new Error('a run without an end');
}

/** The last of a stage beside its first. */
function tell(stage: readonly [string, Learned][]): void {
  const [name, { mean, heldOut }] = stage.at(-1)!;
  const base = stage[0]![1];
  const above = (own: number, from: number): string =>
    `${own >= from ? '+' : ''}${((own / from - 1) * 100).toFixed(2)} %`;
  console.log(
    flags.json
      ? JSON.stringify({ name, mean, heldOut })
      : `${name.padEnd(24)} all updates ${mean.toFixed(5)} (${above(mean, base.mean)}), held out ${heldOut.toFixed(5)} (${above(heldOut, base.heldOut)})`,
  );
}
