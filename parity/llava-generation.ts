/**
 * Greedy answers against transformers' `generate`: prompts are made from the question and the pictures, and answered with and
 * without a cache, alone and in a batch with the others.
 */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { z } from 'zod';

import { loadImage } from '../src/data/loading/load-image.js';
import {
  type ChatModel,
  encodePrompt,
  generate,
  type GenerateOptions,
  loadChatModel,
  type Prompt,
  usePictures,
} from '../src/generate/index.js';
import { type LanguageModel, loadLlava } from '../src/models/index.js';
import type { Message, Part } from '../src/text/index.js';
import type { Device } from '../src/torch/index.js';
import { maybe, readFacts, unexpectedFile } from './facts.js';
import type { Report } from './report.js';

const factsShape = z.object({
  generation: maybe(
    z.array(
      z.object({
        pictures: z.array(z.string()),
        user: z.string(),
        input_ids: maybe(z.array(z.number())),
        new_tokens: maybe(z.array(z.number())),
        smallest_margin: maybe(z.number()),
      }),
    ),
  ),
});
type Fact = NonNullable<z.infer<typeof factsShape>['generation']>[number];

const NEW_TOKENS = 64;
/** Where the reference or Patina has two best logits closer than this, either may come first. */
const CLOSE = 1e-3;

/** One answer, and at each step how far apart its two best logits were. */
interface Answered {
  readonly tokens: number[];
  readonly margins: number[];
}

type Settings = Pick<GenerateOptions, 'stopTokens'>;

/**
 * Adds a row for every answer; with `out` writes `generation.json` there.
 *
 * @throws DataError `E_PARITY_FILES` for facts of another shape; those of loading the model and reading the pictures
 */
export async function compareGeneration(
  report: Report,
  path: string,
  { device, out }: { device: Device; out?: string | undefined },
): Promise<void> {
  const facts = (await readFacts(path, factsShape))?.generation;
  if (facts === undefined) {
    console.log('facts.json has no generation: not compared.');
    return;
  }
  const { model, prompts, tokenized, settings } = await makePrompts(path, facts, device);
  const run = async (batch: readonly Prompt[], cache: boolean): Promise<Answered[]> =>
    answers(model, batch, { ...settings, cache });
  const alone = async (cache: boolean): Promise<Answered[]> =>
    (await Promise.all(prompts.map((prompt) => run([prompt], cache)))).flat();
  const cached = await alone(true);
  const ways: [string, Answered[]][] = [
    ['with cache, alone', cached],
    ['with cache, in a batch', await run(prompts, true)],
    ['without cache, alone', await alone(false)],
    ['without cache, in a batch', await run(prompts, false)],
  ];
  model.dispose();
  facts.forEach((fact, i) => {
    const ids = Array.from(prompts[i]!.inputIds);
    if (tokenized && fact.input_ids !== undefined) {
      report.add({ quantity: `ids of prompt ${i}`, error: differing(ids, fact.input_ids) });
    }
    for (const name of ['input_ids', 'new_tokens'] as const) {
      if (fact[name] !== undefined) continue;
      console.log(`facts.json: ${name} of prompt ${i} is not there: not compared.`);
    }
    for (const [way, found] of ways) compareAnswer(report, `answer ${i} ${way}`, fact, found[i]!);
  });
  if (out === undefined) return;
  const written = prompts.map(({ inputIds }, i) => ({
    input_ids: Array.from(inputIds),
    new_tokens: cached[i]!.tokens,
  }));
  await mkdir(out, { recursive: true });
  await writeFile(join(out, 'generation.json'), `${JSON.stringify(written)}\n`);
}

function compareAnswer(report: Report, quantity: string, fact: Fact, found: Answered): void {
  const { new_tokens: wanted, smallest_margin: margin = Infinity } = fact;
  if (wanted === undefined) return;
  const close = margin < CLOSE ? found.margins.findIndex((each) => each < CLOSE) : -1;
  const end = close < 0 ? Infinity : close;
  report.add({
    quantity,
    error: differing(found.tokens.slice(0, end), wanted.slice(0, end)),
    ...(close < 0 ? {} : { note: `up to token ${close}, where two logits are close` }),
  });
}

interface MadePrompts {
  readonly model: LanguageModel;
  readonly prompts: readonly Prompt[];
  /** Whether their ids are Patina's own. */
  readonly tokenized: boolean;
  readonly settings: Settings;
}

/** Prompts as the folder's own tokenizer, template and image processor make them; without a tokenizer those of the facts. */
async function makePrompts(
  path: string,
  facts: readonly Fact[],
  device: Device,
): Promise<MadePrompts> {
  const folder = join(path, 'hf');
  const options = { device, dtype: 'float32' } as const;
  const chat: Partial<ChatModel> & Pick<ChatModel, 'model'> = existsSync(
    join(folder, 'tokenizer.json'),
  )
    ? await loadChatModel(folder, options)
    : await loadLlava(folder, options);
  const { model, format, stopTokens = [] } = chat;
  // The processor of transformers, without settings, crops.
  const pictures = chat.pictures ?? (await usePictures(model, folder, { mode: 'crop' }))!;
  const prompts = await Promise.all(
    facts.map(async (fact, i): Promise<Prompt> => {
      const images = await Promise.all(
        fact.pictures.map((file) =>
          loadImage(file, {
            ...{ ...pictures, reading: 'stored', folder: path },
            pictures: fact.pictures.length,
          }),
        ),
      );
      if (format !== undefined) return encodePrompt({ model, format }, [question(fact)], images);
      if (fact.input_ids !== undefined) return { inputIds: fact.input_ids, images };
      throw unexpectedFile(folder, `there is no tokenizer and no input_ids for prompt ${i}`);
    }),
  );
  const settings = { stopTokens };
  return { model, prompts, tokenized: format !== undefined, settings };
}

function question({ user, pictures }: Fact): Message {
  const images = pictures.map((_, image): Part => ({ type: 'image', image }));
  return { role: 'user', content: [...images, { type: 'text', text: user }] };
}

async function answers(
  model: LanguageModel,
  prompts: readonly Prompt[],
  options: Settings & { cache: boolean },
): Promise<Answered[]> {
  const found = prompts.map((): Answered => ({ tokens: [], margins: [] }));
  let margins: number[] = [];
  const steps = generate(model, prompts, {
    ...options,
    maxNewTokens: NEW_TOKENS,
    onLogits(logits) {
      const best = logits.topk(2)[0].toTypedArray();
      margins = prompts.map((_, row) => Number(best[2 * row]) - Number(best[2 * row + 1]));
    },
  });
  for await (const { prompt, token } of steps) {
    found[prompt]!.tokens.push(token);
    found[prompt]!.margins.push(margins[prompt]!);
  }
  return found;
}

/** Positions at which two lists differ, those that one lacks included. */
function differing(a: readonly number[], b: readonly number[]): number {
  return Array.from({ length: Math.max(a.length, b.length) }).filter((_, i) => a[i] !== b[i])
    .length;
}
