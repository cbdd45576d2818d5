/**
 * What numbers of few bits cost of the loss: the quickstart's two stages, on its own decoder or on one of LLaVA-Llama-3-8B's widths. The first
 * stage trains all of it, with Adam's moments in each type; over what it left, the second trains LoRA with the decoder's matrices in each form.
 *
 *     node dist/bench/learning.js [--decoder 8b] [--updates 300] [--layers 2] [--hidden 4096] [--states bf16,int8] [--bases bf16,nf4,fp8]
 *                                 [--learning-rates 2e-4,5e-4] [--noise 50] [--seeds 1] [--device cuda:0] [--json]
 *     node dist/bench/learning.js --decoder 8b --seeds 3                       # on a card: a bit over a minute of an H200 for each seed
 *     node dist/bench/learning.js --decoder quickstart --device cpu --seeds 4
 *
 * `--layers` and `--hidden` are of `8b`; the learning rates of `quickstart` are those of its recipes, if none are given.
 *
 * Weights are new, the tower is the quickstart's. So many percent of the answers are another record's (`--noise`), in each stage others, that nobody learns: models
 * of 8B's width learn the rest to almost nothing, of which a difference would say little. Each line has the mean loss of all updates, of the last 50, and
 * the loss on records held out, as means over the seeds until then, and how far they lie above the first form of the stage at each seed. Models lie in the
 * system's folder for temporary files, some 3 GB a seed, and are removed.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkRecipe, type RecipeInput } from '../src/config/index.js';
import { Random } from '../src/data/sampling/random.js';
import { prepareQuickstart } from '../src/recipes/quickstart/prepare.js';
import { quickstart, quickstartQuestions } from '../src/recipes/quickstart/recipes.js';
import { train } from '../src/train/index.js';
import { amountOf, namesOf, runBench } from './command.js';
import { noisyAnswers, type Conversation } from './noisy-answers.js';
import { wideQuickstart } from './shapes.js';

const { values: flags } = parseArgs({
  options: {
    decoder: { type: 'string', default: '8b' },
    updates: { type: 'string', default: '300' },
    seeds: { type: 'string', default: '1' },
    layers: { type: 'string', default: '2' },
    hidden: { type: 'string', default: '4096' },
    states: { type: 'string', default: 'bf16,int8' },
    bases: { type: 'string', default: 'bf16,nf4,fp8' },
    'learning-rates': { type: 'string' },
    noise: { type: 'string', default: '50' },
    device: { type: 'string', default: 'cuda:0' },
    json: { type: 'boolean', default: false },
  },
});

const { config: CONFIG } = quickstart.model as { config: Record<string, unknown> };
const SHAPE = { layers: Number(flags.layers), hidden: Number(flags.hidden) };

/** Updates at the end of a stage whose mean is told. */
const LAST = 50;

interface Learned {
  /** Mean of all updates. */
  readonly all: number;
  /** Mean of the last ones. */
  readonly last: number;
  readonly heldOut: number;
  readonly checkpoint: string;
}

await runBench(async () => {
  const states = namesOf('type of states', flags.states, ['fp32', 'bf16', 'int8']);
  const bases = namesOf('base', flags.bases, ['bf16', 'nf4', 'fp8']);
  const [decoder] = namesOf('decoder', flags.decoder, ['8b', 'quickstart']);
  const usual =
    decoder === '8b'
      ? '2e-4,5e-4'
      : [quickstart, quickstartQuestions].map(({ optimizer }) => optimizer.learningRate).join();
  const noise = amountOf('noise', flags.noise);
  const rates = (flags['learning-rates'] ?? usual).split(',').map(Number);
  const [fullRate, loraRate] = rates as [number, number];
  const root = await mkdtemp(join(tmpdir(), 'patina-learning-'));
  try {
    const data = join(root, 'data');
    await prepareQuickstart(data);
    const [first, second] = [await noisy(data, 'first', noise), await noisy(data, 'second', noise)];
    const common = {
      validation: { fraction: 0.05, everyUpdates: Number(flags.updates) },
      schedule: { updates: Number(flags.updates), warmupUpdates: 30 },
      ...{ batchSize: 16, checkpoints: { everyUpdates: 100_000, keep: 1 } },
      precision: { compute: flags.device === 'cpu' ? 'fp32' : 'bf16' },
      ...{ device: flags.device, text: { maxLength: 192 }, image: { mode: 'crop' } },
      memory: { policy: 'keep' },
      run: { root: join(root, 'runs') },
    } as const satisfies Partial<RecipeInput>;
    const stages: [Stage, Stage] = [new Map<string, Learned[]>(), new Map<string, Learned[]>()];
    for (let seed = 0; seed < Number(flags.seeds); seed++) {
      for (const type of states) {
        const recipe = {
          ...common,
          ...{ name: `full-${type}-${seed}`, seed, data: { sources: first, workers: 1 } },
          model: {
            config: decoder === '8b' ? wideQuickstart(SHAPE) : CONFIG,
            tokenizer: join(data, 'tokenizer'),
          },
          train: quickstart.train!,
          precision: { ...common.precision, master: 'fp32', states: type },
          optimizer: { ...quickstart.optimizer, learningRate: fullRate },
        } satisfies RecipeInput;
        await tell(stages[0], `all of it, states ${type}`, recipe);
      }
      const { checkpoint } = firstOf(stages[0])[seed]!;
      for (const base of bases) {
        const recipe = {
          ...common,
          ...{ name: `lora-${base}-${seed}`, seed, data: { sources: second, workers: 1 } },
          model: { from: checkpoint },
          train: {
            ...quickstartQuestions.train,
            decoder: { lora: { rank: 16, alpha: 32 }, ...(base === 'bf16' ? {} : { base }) },
          },
          optimizer: { learningRate: loraRate },
        } satisfies RecipeInput;
        await tell(stages[1], `LoRA, base ${base}`, recipe);
      }
    }
  } finally {
    await rm(root, { recursive: true });
  }
});

/** The quickstart's records for a stage. */
async function noisy(folder: string, stage: string, percent: number): Promise<string[]> {
  const files = ['captions', 'questions'].map(async (name) => {
    const text = await readFile(join(folder, `${name}.json`), 'utf8');
    const noise = { percent, random: new Random(name, stage) };
    const records = noisyAnswers(JSON.parse(text) as Conversation[], noise);
    const file = join(folder, `${name}-${stage}.json`);
    await writeFile(file, JSON.stringify(records));
    return file;
  });
  return Promise.all(files);
}

async function learn(recipe: RecipeInput): Promise<Learned> {
  const losses: number[] = [];
  for await (const event of train(checkRecipe(recipe))) {
    if (event.type === 'update' && event.loss !== null) losses.push(event.loss);
    if (event.type !== 'end') continue;
    return {
      all: mean(losses),
      last: mean(losses.slice(-LAST)),
      heldOut: event.validationLoss!,
      checkpoint: event.checkpoint!,
    };
  }
  throw new Error('a run without an end');
}

/** What each form learned, seed by seed; the others are held against the first. */
type Stage = Map<string, Learned[]>;

function firstOf(stage: Stage): Learned[] {
  return stage.values().next().value!;
}

/** Learns once more, and tells what came of the seeds until now: means, and how far each seed's lies above that of the stage's first form. */
async function tell(stage: Stage, name: string, recipe: RecipeInput): Promise<void> {
  const learned = [...(stage.get(name) ?? []), await learn(recipe)];
  stage.set(name, learned);
  const told = (kind: 'all' | 'last' | 'heldOut') => {
    const above = learned.map((each, i) => each[kind] / firstOf(stage)[i]![kind] - 1);
    return { mean: mean(learned.map((each) => each[kind])), above };
  };
  const [all, last, heldOut] = [told('all'), told('last'), told('heldOut')];
  const words = ({ mean, above }: typeof all): string =>
    `${mean.toFixed(5)} (${above.map((part) => `${part < 0 ? '' : '+'}${(100 * part).toFixed(2)}`).join(', ')} %)`;
  console.log(
    flags.json
      ? JSON.stringify({ name, seeds: learned.length, all, last, heldOut })
      : `${name.padEnd(24)} all updates ${words(all)}, last ${LAST} ${words(last)}, held out ${words(heldOut)}`,
  );
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, each) => sum + each, 0) / values.length;
}
