import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { fitImage } from '../data/image/fit.js';
import { normaliseTable } from '../data/image/normalise.js';
import { readImage } from '../data/image/read-image.js';
import type { Llava, Residency, SegmentBase } from '../models/index.js';
import { loadTokenizer, type Tokenizer } from '../text/index.js';
import { noGrad, type Tensor } from '../torch/index.js';
import { generate, type GeneratedToken, type GenerateOptions } from './generate.js';
import type { Prompt } from './prompt.js';
import { CHAT_FOLDER, greedyFacts, LLAVA, tinyLlava } from './testing.js';

async function collect(
  model: Llava,
  prompts: readonly Prompt[],
  options: GenerateOptions,
): Promise<GeneratedToken[][]> {
  const rows: GeneratedToken[][] = prompts.map(() => []);
  for await (const token of generate(model, prompts, options)) rows[token.prompt]!.push(token);
  return rows;
}

/** Parameters have memory in the visits of their segments alone, and come after a wait. */
class Visits implements Residency {
  readonly visited: string[] = [];
  private readonly values = new Map<Tensor, Tensor>();
  private readonly users = new Map<Tensor, number>();

  constructor(model: Llava) {
    for (const [name, { requiresGrad }] of model.namedParameters()) {
      // Of its own, for memory that is a file's cannot be freed.
      const own = noGrad(() => model.namedParameters().get(name)!.detach().clone());
      model.load(name, own.requiresGrad_(requiresGrad));
      this.values.set(own, own.detach().clone());
    }
    for (const parameter of this.values.keys()) parameter.resizeStorage(0);
  }

  get bytes(): number {
    return [...this.values.keys()].reduce((sum, { storageBytes }) => sum + storageBytes, 0);
  }

  async acquire(segment: SegmentBase): Promise<void> {
    this.visited.push(segment.name);
    await setImmediate();
    for (const parameter of segment.parameters().values()) {
      const users = this.users.get(parameter) ?? 0;
      this.users.set(parameter, users + 1);
      const value = this.values.get(parameter)!;
      if (users === 0) parameter.resizeStorage(value.bytes).overwrite(value);
    }
  }

  prefetch(): void {}

  async release(segment: SegmentBase): Promise<void> {
    await setImmediate();
    for (const parameter of segment.parameters().values()) {
      const users = this.users.get(parameter)! - 1;
      this.users.set(parameter, users);
      if (users === 0) parameter.resizeStorage(0);
    }
  }

  dispose(): void {
    for (const value of this.values.values()) value.dispose();
  }
}

const idsOf = (rows: readonly GeneratedToken[][]): number[][] =>
  rows.map((row) => row.map(({ token }) => token));

describe.each(['llama3', 'llama31-tied-small'])('greedy answers of %s', (variant) => {
  const facts = greedyFacts(variant);
  const wanted = facts.map(({ new_tokens }) => new_tokens);
  const greedy = { maxNewTokens: 64 };
  let model: Llava;
  let prompts: Prompt[];

  beforeAll(async () => {
    model = await tinyLlava(variant);
    model.normaliseBy(normaliseTable());
    const { size } = model.input.image!;
    prompts = await Promise.all(
      facts.map(async ({ input_ids, pictures }) => ({
        inputIds: input_ids,
        images: await Promise.all(
          pictures.map(async (file) => {
            const image = await readImage(join(LLAVA, variant, file));
            return fitImage(image, { size, mode: 'crop' }).data;
          }),
        ),
      })),
    );
  });
  afterAll(() => model.dispose());

  it('are those of transformers, each prompt alone', async () => {
    for (const [i, prompt] of prompts.entries()) {
      expect(idsOf(await collect(model, [prompt], greedy))).toEqual([wanted[i]]);
    }
  });

  it('are the same in a batch, in a cache that grows', async () => {
    expect(idsOf(await collect(model, prompts, { ...greedy, block: 16 }))).toEqual(wanted);
    const twice = [prompts[3]!, prompts[3]!];
    expect(idsOf(await collect(model, twice, greedy))).toEqual([wanted[3], wanted[3]]);
  });

  it('are the same without a cache, alone and in a batch', async () => {
    const slow = { ...greedy, cache: false };
    expect(idsOf(await collect(model, prompts, slow))).toEqual(wanted);
    expect(idsOf(await collect(model, [prompts[1]!], slow))).toEqual([wanted[1]]);
  });

  it('are the same where parameters come segment by segment and go again', async () => {
    const shared = await tinyLlava(variant);
    shared.normaliseBy(normaliseTable());
    const residency = new Visits(shared);
    const names = [...shared.segments, shared.head].map(({ name }) => name);
    const isVisual = (name: string): boolean =>
      shared.segments.some((segment) => segment.visual && segment.name === name);
    const decoder = names.filter((name) => !isVisual(name));
    const firsts = wanted.map((tokens) => tokens.slice(0, 4));
    await expect(async () => {
      const rows = await collect(shared, prompts, { maxNewTokens: 4, residency });
      expect(idsOf(rows)).toEqual(firsts);
      expect(residency.visited.splice(0)).toEqual([...names, ...decoder, ...decoder, ...decoder]);
      const slow = { maxNewTokens: 2, cache: false, residency };
      expect(idsOf(await collect(shared, prompts, slow))).toEqual(
        firsts.map((tokens) => tokens.slice(0, 2)),
      );
      expect(residency.visited).toEqual([...names, ...names]);
      for await (const { token } of generate(shared, prompts, { residency })) if (token >= 0) break;
    }).toLeakNothing();
    expect(residency.bytes).toBe(0);
    residency.dispose();
    shared.dispose();
  });
});

describe('generate', () => {
  const fact = greedyFacts('llama3')[3]!;
  const prompt: Prompt = { inputIds: fact.input_ids };
  let model: Llava;
  let tokenizer: Tokenizer;

  beforeAll(async () => {
    model = await tinyLlava('llama3');
    tokenizer = await loadTokenizer(CHAT_FOLDER);
  });
  afterAll(() => model.dispose());

  interface Run {
    settings: Record<string, number>;
    seed: number;
    new_tokens: number[];
  }
  const sampling = JSON.parse(
    readFileSync(join(packageRoot(), 'test/fixtures/generate/sampling.json'), 'utf8'),
  ) as { runs: Run[] };
  it.each(sampling.runs)('draws as transformers does: $settings', async (run) => {
    const named = Object.entries({ temperature: 1, ...run.settings }).map(([name, value]) => [
      name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      value,
    ]);
    const settings = Object.fromEntries(named) as GenerateOptions;
    const options = { ...settings, seed: run.seed, maxNewTokens: 40 };
    expect(idsOf(await collect(model, [prompt], options))).toEqual([run.new_tokens]);
  });

  it('takes temperature 1 where only a choice is limited', async () => {
    const [drawn] = idsOf(await collect(model, [prompt], { topK: 40, seed: 3, maxNewTokens: 20 }));
    expect(drawn).not.toEqual(fact.new_tokens.slice(0, 20));
    const [best] = idsOf(await collect(model, [prompt], { topK: 1, maxNewTokens: 20 }));
    expect(best).toEqual(fact.new_tokens.slice(0, 20));
  });

  it.each([1e-30, 1e-37, 1e-300])('takes the best at temperature %d', async (temperature) => {
    const options = { temperature, seed: 3, maxNewTokens: 20 };
    const [cold] = idsOf(await collect(model, [prompt], options));
    expect(cold).toEqual(fact.new_tokens.slice(0, 20));
  });

  it('streams whole characters that add up to the text', async () => {
    const [row] = await collect(model, [prompt], { tokenizer, maxNewTokens: 64 });
    const plain = fact.text.replaceAll(/<(\|[a-z_]+\||image|pad)>/g, '');
    expect(row!.map(({ text }) => text).join('')).toBe(plain);
    expect(row!.map(({ finish }) => finish)).toEqual([...Array<null>(63).fill(null), 'length']);
  });

  it('ends at a stop token, whose text is left out, while others go on', async () => {
    const stop = fact.new_tokens[5]!;
    const other = { inputIds: fact.input_ids.slice(0, 20) };
    const rows = await collect(model, [prompt, other], {
      ...{ tokenizer, stopTokens: [stop], maxNewTokens: 9 },
    });
    expect(idsOf(rows)[0]).toEqual(fact.new_tokens.slice(0, 6));
    expect(rows[0]!.at(-1)).toMatchObject({ finish: 'stop' });
    expect(rows[1]).toHaveLength(9);
  });

  it('ends at a stop string that goes over tokens', async () => {
    const [row] = await collect(model, [prompt], {
      ...{ tokenizer, stopStrings: ['lew', 'with andile'], maxNewTokens: 64 },
    });
    expect(row!.map(({ text }) => text).join('')).toBe('ַ� ');
    expect(row!.at(-1)!.finish).toBe('stop');
  });

  it('fills the context and ends there', async () => {
    const { maxPositionEmbeddings: context } = model.decoder.config;
    const ids = Array.from({ length: context - 2 }, (_, i) => i % 500);
    const [row] = await collect(model, [{ inputIds: ids }], {});
    expect(row!.map(({ finish }) => finish)).toEqual([null, null, 'length']);
    const long = { inputIds: [...ids, 1, 2, 3] };
    await expect(collect(model, [long], {})).rejects.toMatchObject({ code: 'E_CONTEXT' });
  });

  it('stops when the signal says so, and when the reader leaves, and frees everything', async () => {
    await expect(async () => {
      const stop = new AbortController();
      const tokens: number[] = [];
      const reading = (async () => {
        for await (const { token } of generate(model, [prompt], { signal: stop.signal })) {
          if (tokens.push(token) === 3) stop.abort();
        }
      })();
      await expect(reading).rejects.toMatchObject({ name: 'AbortError' });
      expect(tokens).toEqual(fact.new_tokens.slice(0, 3));
      for await (const { token } of generate(model, [prompt], {
        repetitionPenalty: 1.1,
        topP: 0.9,
      }))
        if (token >= 0) break;
    }).toLeakNothing();
  });

  it.each([{ cache: true }, { cache: false }])(
    'goes on from the tokens that were agreed on, %o',
    async (way) => {
      const wanted = fact.new_tokens;
      // Another rank, which leads, chose for the second token what this one would not.
      const led = wanted[1] === 7 ? 8 : 7;
      let calls = 0;
      const agree = async <T>(step: () => T | Promise<T>): Promise<T> => {
        const own = await step();
        return ++calls === 2 ? ([led] as T) : own;
      };
      const [agreed] = idsOf(await collect(model, [prompt], { ...way, maxNewTokens: 5, agree }));
      expect(agreed!.slice(0, 2)).toEqual([wanted[0], led]);
      const forced = { inputIds: [...fact.input_ids, wanted[0]!, led] };
      const [rest] = idsOf(await collect(model, [forced], { ...way, maxNewTokens: 3 }));
      expect(agreed!.slice(2)).toEqual(rest);
      calls = 0;
      const rows = await collect(model, [prompt], { ...way, stopTokens: [led], agree });
      expect(idsOf(rows)).toEqual([[wanted[0], led]]);
      expect(rows[0]!.at(-1)!.finish).toBe('stop');
    },
  );

  it('ends where no token is agreed on', async () => {
    const agree = async <T>(step: () => T | Promise<T>): Promise<T> => {
      await step();
      throw new RangeError('another rank has failed');
    };
    await expect(async () => {
      const answer = collect(model, [prompt], { agree });
      await expect(answer).rejects.toThrow('another rank has failed');
    }).toLeakNothing();
  });

  it('lets other work have its turn', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await collect(model, [prompt], { maxNewTokens: 30 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
  });

  it.each([
    [{ temperature: -1 }, 'E_SAMPLING'],
    [{ temperature: NaN }, 'E_SAMPLING'],
    [{ topK: 0 }, 'E_SAMPLING'],
    [{ topP: 0 }, 'E_SAMPLING'],
    [{ minP: 1.5 }, 'E_SAMPLING'],
    [{ repetitionPenalty: 0 }, 'E_SAMPLING'],
    [{ seed: 0.5 }, 'E_SAMPLING'],
    [{ maxNewTokens: 0 }, 'E_SAMPLING'],
    [{ stopStrings: ['.'] }, 'E_STOP_STRINGS'],
  ])('refuses %o', async (options, code) => {
    await expect(collect(model, [prompt], options)).rejects.toMatchObject({ code });
  });

  it('refuses prompts that do not fit the model', async () => {
    const refused = (each: Prompt): Promise<void> =>
      expect(collect(model, [each], {})).rejects.toMatchObject({ code: 'E_SAMPLE' });
    await expect(async () => {
      await refused({ inputIds: [] });
      await refused({ inputIds: [1, 9999] });
      await refused({ inputIds: [1, model.input.image!.tokenId] });
    }).toLeakNothing();
    expect(await collect(model, [], {})).toEqual([]);
  });

  it('says that logits are not finite', async () => {
    const broken = await tinyLlava('llama3');
    broken.decoder.norm.weight.fill_(Infinity);
    await expect(collect(broken, [prompt], {})).rejects.toMatchObject({ code: 'E_LOGITS' });
    broken.dispose();
  });
});
