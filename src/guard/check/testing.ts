/** For tests of checks: a folder with a tiny LLaVA of its own, pictures and records, to which faults are done as a user could. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';

import { packageRoot } from '../../base/native-path.js';
import { checkRecipe, type RecipeInput } from '../../config/index.js';
import { check, type RunCheckOptions, type CheckSummary } from './check.js';
import type { Finding } from './finding.js';

const MODEL = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama3', 'hf');

interface TensorHead {
  readonly dtype: string;
  readonly data_offsets: readonly [number, number];
}

export class FaultFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'patina-check-'));

  /** @param model a folder that takes the place of the LLaVA's, with its tokenizer */
  constructor(model?: string) {
    cpSync(MODEL, this.at('model'), { recursive: true });
    if (model === undefined) return;
    rmSync(this.at('model', 'processor_config.json'));
    cpSync(model, this.at('model'), { recursive: true });
  }

  at(...path: string[]): string {
    return join(this.path, ...path);
  }

  /** A picture of noise between two levels. */
  async picture(name: string, [low, high]: readonly [number, number] = [0, 255]): Promise<string> {
    let state = 1;
    const data = Buffer.from(
      Array.from({ length: 3 * 32 * 32 }, () => {
        state = (state * 48271) % 2147483647;
        return low + (state % (high - low + 1));
      }),
    );
    await sharp(data, { raw: { width: 32, height: 32, channels: 3 } })
      .png()
      .toFile(this.at(name));
    return name;
  }

  write(name: string, text: string): string {
    writeFileSync(this.at(name), text);
    return this.at(name);
  }

  records(records: readonly unknown[], name = 'data.jsonl'): string {
    return this.write(name, records.map((each) => `${JSON.stringify(each)}\n`).join(''));
  }

  /** Changes a text file of the model. */
  rewrite(file: string, change: (text: string) => string): void {
    const path = this.at('model', file);
    writeFileSync(path, change(readFileSync(path, 'utf8')));
  }

  /** Changes the numbers of a tensor of the model, in place. */
  weights(tensor: string, change: (values: Float32Array) => unknown): void {
    this.#stored((bytes, head, start) => {
      const [from, to] = head[tensor]!.data_offsets;
      const values = new Float32Array(bytes.slice(start + from, start + to).buffer);
      change(values);
      bytes.set(new Uint8Array(values.buffer), start + from);
    });
  }

  /** Gives a tensor of the model another name, so that it is in no file under its own. */
  rename(tensor: string, name: string): void {
    const path = this.at('model', 'model.safetensors');
    const text = readFileSync(path, 'latin1');
    if (name.length !== tensor.length) throw new Error('a name of the same length, please');
    writeFileSync(path, text.replace(`"${tensor}"`, `"${name}"`), 'latin1');
  }

  /** Keeps all weights in bf16: the halves of what they are in fp32. */
  inBf16(): void {
    const path = this.at('model', 'model.safetensors');
    const bytes = new Uint8Array(readFileSync(path));
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const head = JSON.parse(Buffer.from(bytes.subarray(8, 8 + length)).toString()) as Record<
      string,
      TensorHead
    >;
    const values = new Uint16Array(bytes.slice(8 + length).buffer);
    const halves = Uint16Array.from({ length: values.length / 2 }, (_, i) => values[2 * i + 1]!);
    const entries = Object.entries(head).map(([name, tensor]) => {
      if (name === '__metadata__') return [name, tensor];
      const offsets = tensor.data_offsets.map((offset) => offset / 2);
      return [name, { ...tensor, dtype: 'BF16', data_offsets: offsets }];
    });
    const text = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(path, Buffer.concat([size, text, Buffer.from(halves.buffer)]));
  }

  recipe(more: Partial<RecipeInput> = {}): RecipeInput {
    return {
      name: 'checked',
      model: { from: this.at('model') },
      data: { sources: [this.at('data.jsonl')], workers: 0 },
      text: { maxLength: 256 },
      optimizer: { learningRate: 1e-3 },
      precision: { compute: 'fp32' },
      batchSize: 4,
      device: 'cpu',
      run: { root: this.at('runs'), tensorboard: false },
      ...more,
    };
  }

  async check(more: Partial<RecipeInput> = {}, options: RunCheckOptions = {}): Promise<Checked> {
    const findings: Finding[] = [];
    let summary: CheckSummary | undefined;
    const recipe = checkRecipe(this.recipe(more));
    for await (const event of check(recipe, { threads: 0, ...options })) {
      if (event.type === 'finding') findings.push(event);
      else summary = event;
    }
    return { findings, summary: summary! };
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  #stored(
    change: (bytes: Uint8Array, head: Record<string, TensorHead>, start: number) => void,
  ): void {
    const path = this.at('model', 'model.safetensors');
    const bytes = new Uint8Array(readFileSync(path));
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const head = Buffer.from(bytes.subarray(8, 8 + length)).toString();
    change(bytes, JSON.parse(head) as Record<string, TensorHead>, 8 + length);
    writeFileSync(path, bytes);
  }
}

export interface Checked {
  readonly findings: readonly Finding[];
  readonly summary: CheckSummary;
}

/** A record with a question and an answer, or more of both. */
export function talk(id: unknown, ...texts: readonly string[]): Record<string, unknown> {
  const conversations = texts.map((value, i) => ({ from: i % 2 === 0 ? 'human' : 'gpt', value }));
  return { id, conversations };
}

/** The same about a picture. */
export function look(id: unknown, image: string, ...texts: string[]): Record<string, unknown> {
  return {
    ...talk(id, `<image>\n${texts[0] ?? 'What is it?'}`, texts[1] ?? `It is ${String(id)}.`),
    image,
  };
}

/** Some records that nothing is wrong with, about a picture or none. */
export function healthy(picture: string): Record<string, unknown>[] {
  return [
    talk('a', 'say one', 'one'),
    look('b', picture),
    talk('c', 'say two', 'two', 'and more', 'three'),
    look('d', picture, 'What is on it?', 'Noise, and nothing else.'),
    talk('e', 'say four', 'four'),
    talk('f', 'say five', 'five'),
  ];
}
