/** For tests of whole runs: a folder with pictures of one colour each, records about them, a tokenizer, and a recipe. */

import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { packageRoot } from '../base/native-path.js';
import type { RecipeInput } from '../config/index.js';

const COLOURS = ['red', 'green', 'blue', 'white', 'black'];

/** Pictures of 8 x 8 pixels that become 4 tokens; some thousand parameters. */
export const TINY_CONFIG = {
  model_type: 'llava',
  image_token_index: 398,
  vision_feature_layer: -1,
  vision_config: {
    model_type: 'clip_vision_model',
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    image_size: 8,
    patch_size: 4,
  },
  text_config: {
    model_type: 'llama',
    vocab_size: 400,
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 2,
  },
};

/** A record about a picture, or about none. */
export function colourRecord(i: number, image: string | null = `${i % 5}.png`): object {
  return {
    id: i,
    ...(image !== null && { image }),
    conversations: [
      { from: 'human', value: `${image === null ? '' : '<image>\n'}What colour is it?` },
      { from: 'gpt', value: `It is ${COLOURS[i % 5]!}.` },
    ],
  };
}

export class ColourFolder {
  private constructor(readonly path: string) {}

  static async make(): Promise<ColourFolder> {
    const folder = new ColourFolder(mkdtempSync(join(tmpdir(), 'patina-colours-')));
    const tokenizer = join(packageRoot(), 'src/recipes/quickstart/tokenizer');
    cpSync(tokenizer, folder.at('tokenizer'), { recursive: true });
    for (const [i, background] of COLOURS.entries()) {
      const create = { width: 8, height: 8, channels: 3, background } as const;
      await sharp({ create })
        .png()
        .toFile(folder.at(`${i}.png`));
    }
    const records = (count: number, text: (i: number) => boolean): object[] =>
      Array.from({ length: count }, (_, i) => colourRecord(i, text(i) ? null : undefined));
    folder.writeRecords(
      'one.jsonl',
      records(7, () => false),
    );
    folder.writeRecords(
      'two.jsonl',
      records(6, (i) => i % 2 === 1),
    );
    return folder;
  }

  at(...path: string[]): string {
    return join(this.path, ...path);
  }

  get runs(): string {
    return this.at('runs');
  }

  writeRecords(name: string, records: readonly unknown[]): string {
    writeFileSync(this.at(name), records.map((each) => `${JSON.stringify(each)}\n`).join(''));
    return this.at(name);
  }

  /** Ten updates over both files. */
  recipe(more: Partial<RecipeInput> = {}): RecipeInput {
    return {
      name: 'colours',
      model: { config: TINY_CONFIG, tokenizer: this.at('tokenizer') },
      train: { vision: 'full', projector: 'full', decoder: 'full' },
      data: {
        sources: [this.at('one.jsonl'), { path: this.at('two.jsonl'), weight: 0.5 }],
        workers: 0,
      },
      optimizer: { learningRate: 3e-3 },
      schedule: { epochs: 2 },
      batchSize: 2,
      memory: { policy: 'keep' },
      run: { root: this.runs },
      device: 'cpu',
      ...more,
    };
  }

  remove(): void {
    rmSync(this.path, { recursive: true });
  }
}
