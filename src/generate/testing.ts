/** For tests: prompts and greedy answers that transformers has written down about the models of `test/fixtures/llava`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../base/native-path.js';
import { loadLlava, type Llava } from '../models/index.js';

export const LLAVA = join(packageRoot(), 'test', 'fixtures', 'llava');
/** The folder with the model, tokenizer and chat template of a chat. */
export const CHAT_FOLDER = join(LLAVA, 'llama3', 'hf');
export const PICTURE = join(LLAVA, 'llama3', 'pictures', '0-0.png');

export interface GreedyFacts {
  /** Files in the variant's folder. */
  pictures: string[];
  user: string;
  input_ids: number[];
  new_tokens: number[];
  text: string;
  smallest_margin: number;
}

export function greedyFacts(variant: string): GreedyFacts[] {
  const text = readFileSync(join(LLAVA, variant, 'facts.json'), 'utf8');
  return (JSON.parse(text) as { generation: GreedyFacts[] }).generation;
}

export async function tinyLlava(variant: string): Promise<Llava> {
  return (await loadLlava(join(LLAVA, variant, 'hf'))).model;
}
