import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { fitImage } from '../data/image/fit.js';
import { normaliseTable } from '../data/image/normalise.js';
import { readImage } from '../data/image/read-image.js';
import { finish, type Llava, loadLlava } from '../models/index.js';
import {
  cat,
  type Device,
  inferenceMode,
  scope,
  tensor,
  type Tensor,
  torchFacts,
} from '../torch/index.js';
import { BatchedGenerator, type RequestOptions } from './batched-generator.js';
import { CachedRows } from './cached-rows.js';
import { generate } from './generate.js';
import type { Prompt } from './prompt.js';
import { greedyFacts, LLAVA, tinyLlava } from './testing.js';

/** Logits of each row after its prompt and after given tokens; prompts join one by one. */
function forced(model: Llava, prompts: readonly Prompt[], tokens: number[][]): Float32Array[] {
  return inferenceMode(() =>
    scope(() => {
      const { device } = model.decoder.embedTokens.weight;
      const rows = new CachedRows(model);
      const read = (logits: Tensor): Float32Array[] =>
        prompts.map((_, row) => logits.select(0, row).to('float32').toTypedArray() as Float32Array);
      const steps = [read(cat(prompts.map((prompt) => finish(rows.join([prompt])))))];
      for (let step = 0; step < tokens[0]!.length; step++) {
        const next = tensor(
          tokens.map((row) => row[step]!),
          { dtype: 'int64', device },
        );
        steps.push(read(finish(rows.next(next))));
      }
      rows.dispose();
      return prompts.flatMap((_, row) => steps.map((each) => each[row]!));
    }),
  );
}

/** The largest difference. */
function furthest(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  return Math.max(...a.flatMap((row, i) => Array.from(row, (x, j) => Math.abs(x - b[i]![j]!))));
}

const VARIANT = 'llama31-tied-small';

describe('a batched generator', () => {
  const facts = greedyFacts(VARIANT);
  let model: Llava;
  /** Sixteen prompts of different lengths, some with pictures. */
  let prompts: Prompt[];

  beforeAll(async () => {
    model = await tinyLlava(VARIANT);
    model.normaliseBy(normaliseTable());
    const { size } = model.input.image!;
    const whole = await Promise.all(
      facts.map(async ({ input_ids, pictures }) => ({
        inputIds: input_ids,
        images: await Promise.all(
          pictures.map(async (file) => {
            const image = await readImage(join(LLAVA, VARIANT, file));
            return fitImage(image, { size, mode: 'crop' }).data;
          }),
        ),
      })),
    );
    const words = facts.at(-1)!.input_ids;
    prompts = Array.from(
      { length: 16 },
      (_, i) => whole[i] ?? { inputIds: words.slice(0, 3 + ((7 * i) % words.length)) },
    );
  });
  afterAll(() => model.dispose());

  async function alone(prompt: Prompt, options: RequestOptions): Promise<number[]> {
    const tokens: number[] = [];
    for await (const { token } of generate(model, [prompt], options)) tokens.push(token);
    return tokens;
  }

  async function asked(
    generator: BatchedGenerator,
    prompt: Prompt,
    options: RequestOptions,
  ): Promise<number[]> {
    const tokens: number[] = [];
    for await (const { token } of generator.ask(prompt, options)) tokens.push(token);
    return tokens;
  }

  /** What a model answers to a prompt that is alone, and what it chose from. */
  async function withLogits(
    model: Llava,
    prompt: Prompt,
    options: RequestOptions,
  ): Promise<{ tokens: number[]; logits: Float32Array[] }> {
    const tokens: number[] = [];
    const logits: Float32Array[] = [];
    const onLogits = (each: Tensor): unknown =>
      logits.push(each.to('float32').toTypedArray() as Float32Array);
    for await (const { token } of generate(model, [prompt], { ...options, onLogits })) {
      tokens.push(token);
    }
    return { tokens, logits };
  }

  it('gives sixteen prompts of different lengths the tokens that each gets alone', async () => {
    await expect(async () => {
      const options = prompts.map((_, i) => ({ maxNewTokens: 5 + 4 * i }));
      const wanted: number[][] = [];
      for (const [i, prompt] of prompts.entries()) wanted.push(await alone(prompt, options[i]!));
      const generator = new BatchedGenerator(model);
      const found = prompts.map((prompt, i) => asked(generator, prompt, options[i]!));
      await setImmediate();
      expect(await Promise.all(found)).toEqual(wanted);
      await generator.idle();
      expect(generator).toMatchObject({ running: 0, waiting: 0 });
    }).toLeakNothing();
  });

  const devices: Device[] = torchFacts().cuda === null ? ['cpu'] : ['cpu', 'cuda:0'];
  it.each(devices)(
    'computes in bf16 on %s as near to fp32 beside others as alone, and parts only where two tokens are as good',
    async (device) => {
      const wanted = await Promise.all(prompts.map((each) => alone(each, { maxNewTokens: 6 })));
      const half = (await loadLlava(join(LLAVA, VARIANT, 'hf'), { device, dtype: 'bfloat16' }))
        .model;
      half.normaliseBy(normaliseTable());
      const exact = prompts.map((prompt, i) => forced(model, [prompt], [wanted[i]!]));
      const single = prompts.map((prompt, i) => forced(half, [prompt], [wanted[i]!]));
      const together = forced(half, prompts, wanted);
      const error = furthest(single.flat(), exact.flat());
      expect(error).toBeGreaterThan(0);
      expect(furthest(together, single.flat())).toBeLessThanOrEqual(error);
      const options = { maxNewTokens: 60 };
      const answers = await Promise.all(prompts.map((each) => withLogits(half, each, options)));
      const generator = new BatchedGenerator(half);
      for (const [i, prompt] of prompts.slice(0, 3).entries()) {
        expect(await asked(generator, prompt, options)).toEqual(answers[i]!.tokens);
      }
      const beside = await Promise.all(prompts.map((each) => asked(generator, each, options)));
      for (const [i, { tokens, logits }] of answers.entries()) {
        const at = tokens.findIndex((token, step) => token !== beside[i]![step]);
        if (at < 0) continue;
        // The first other token is one that is as good as the best, as far as bf16 can tell.
        const [own, other] = [tokens[at]!, beside[i]![at]!].map((token) => logits[at]![token]!);
        expect(own! - other!).toBeGreaterThanOrEqual(0);
        expect(own! - other!).toBeLessThan(error);
      }
      half.dispose();
    },
  );

  it('draws for each from a stream of its own, whoever is beside it', async () => {
    const options = prompts.map((_, i) => ({
      ...{ temperature: 0.9, seed: i % 5, maxNewTokens: 12 },
      ...(i % 3 === 0 && { topP: 0.8 }),
      ...(i % 3 === 1 && { repetitionPenalty: 1.2 }),
      ...(i % 4 === 3 && { temperature: 0 }),
    }));
    const wanted: number[][] = [];
    for (const [i, prompt] of prompts.entries()) wanted.push(await alone(prompt, options[i]!));
    const generator = new BatchedGenerator(model, { rows: 5 });
    const found = prompts.map((prompt, i) => asked(generator, prompt, options[i]!));
    expect(await Promise.all(found)).toEqual(wanted);
  });

  it('lets prompts join and leave at any time', async () => {
    await expect(async () => {
      const wanted = await alone(prompts[0]!, { maxNewTokens: 40 });
      const generator = new BatchedGenerator(model, { rows: 3 });
      const first = asked(generator, prompts[0]!, { maxNewTokens: 40 });
      const others: Promise<unknown>[] = [];
      for (const prompt of prompts.slice(1, 9)) {
        await setImmediate();
        others.push(asked(generator, prompt, { maxNewTokens: 3 }));
        const left = generator.ask(prompt, { maxNewTokens: 90 });
        await left.next();
        await left.return();
      }
      expect(await first).toEqual(wanted);
      await Promise.all(others);
      await generator.idle();
    }).toLeakNothing();
  });

  it('ends an answer by its signal, running or waiting, and refuses more who wait than may', async () => {
    await expect(async () => {
      const generator = new BatchedGenerator(model, { rows: 1, waiting: 1 });
      const stop = new AbortController();
      const options = { maxNewTokens: 100, signal: stop.signal };
      const first = asked(generator, prompts[0]!, options);
      const second = asked(generator, prompts[1]!, options);
      expect(() => generator.ask(prompts[2]!)).toThrow(
        expect.objectContaining({ code: 'E_BUSY' }) as Error,
      );
      await setImmediate();
      await setImmediate();
      expect(generator).toMatchObject({ running: 1, waiting: 1 });
      stop.abort(new RangeError('enough'));
      await expect(first).rejects.toThrow('enough');
      await expect(second).rejects.toThrow('enough');
      const third = asked(generator, prompts[2]!, { maxNewTokens: 2 });
      expect(await third).toHaveLength(2);
      expect(() => generator.ask(prompts[0]!, options)).toThrow('enough');
      await generator.idle();
    }).toLeakNothing();
  });

  it('keeps to its places, but gives a prompt that is alone all it needs', async () => {
    const generator = new BatchedGenerator(model, { places: 300 });
    const text = prompts.slice(-3);
    const answers = text.map((prompt) => asked(generator, prompt, { maxNewTokens: 100 }));
    let most = 0;
    for await (const { token } of generator.ask(text[0]!, { maxNewTokens: 100 })) {
      if (token >= 0) most = Math.max(most, generator.running);
    }
    await Promise.all(answers);
    expect(most).toBe(2);
    expect(await asked(generator, text[0]!, { maxNewTokens: 400 })).toHaveLength(400);
  });

  it('gives the log probabilities of tokens before sampling', async () => {
    const generator = new BatchedGenerator(model);
    const [prompt] = prompts.slice(-1) as [Prompt];
    const logits: Float32Array[] = [];
    const tokens: number[] = [];
    const settings = { temperature: 2, seed: 4, maxNewTokens: 6 };
    for await (const { token } of generate(model, [prompt], {
      ...settings,
      onLogits: (each) => logits.push(each.toTypedArray() as Float32Array),
    })) {
      tokens.push(token);
    }
    let step = 0;
    for await (const { token, logprobs } of generator.ask(prompt, { ...settings, logprobs: 3 })) {
      const scores = Array.from(logits[step]!);
      const sum = Math.log(scores.reduce((total, score) => total + Math.exp(score), 0));
      const order = scores.map((_, id) => id).sort((a, b) => scores[b]! - scores[a]!);
      expect(token).toBe(tokens[step++]);
      expect(logprobs!.logprob).toBeCloseTo(scores[token]! - sum, 4);
      expect(logprobs!.top.map((each) => each.token)).toEqual(order.slice(0, 3));
      expect(logprobs!.top[0]!.logprob).toBeCloseTo(scores[order[0]!]! - sum, 4);
    }
    expect(step).toBe(6);
  });

  it('fails a prompt alone that the model cannot take', async () => {
    const generator = new BatchedGenerator(model);
    const good = asked(generator, prompts[0]!, { maxNewTokens: 8 });
    await expect(asked(generator, { inputIds: [1, 99999] }, {})).rejects.toMatchObject({
      code: 'E_SAMPLE',
    });
    expect(await good).toEqual(await alone(prompts[0]!, { maxNewTokens: 8 }));
    expect(() => generator.ask({ inputIds: new Array<number>(9999).fill(1) })).toThrow(
      expect.objectContaining({ code: 'E_CONTEXT' }) as Error,
    );
  });

  it.each([{}, { temperature: 1 }])(
    'says that logits are not finite, and answers others as before, %o',
    async (settings) => {
      const own = await tinyLlava('llama3');
      const generator = new BatchedGenerator(own);
      // The embedding of one token overflows: only who says it is hurt.
      own.decoder.embedTokens.weight.select(0, 7).fill_(Infinity);
      const options = { maxNewTokens: 20, ...settings };
      const words = greedyFacts('llama3')[3]!.input_ids.filter((id) => id !== 7);
      const before = await asked(generator, { inputIds: words }, options);
      const first = asked(generator, { inputIds: words }, options);
      const broken = asked(generator, { inputIds: [...words, 7, ...words] }, options);
      await expect(broken).rejects.toMatchObject({ code: 'E_LOGITS' });
      expect(generator.running).toBe(1);
      // In the row of the broken one, beside a longer one.
      const short = { inputIds: words.slice(0, 4) };
      const after = await asked(generator, short, options);
      expect(after).toEqual(await asked(generator, short, options));
      expect(await first).toEqual(before);
      own.dispose();
    },
  );
});
