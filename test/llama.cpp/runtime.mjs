// What llama.cpp says, through @fugood/llama.node: ids of texts, and the tokens with their probabilities that follow prompts.
//
//     node runtime.mjs NODE_MODULES REQUEST.json ANSWER.json     REQUEST: {model, mmproj?, texts: [...], prompts: [{text, media?}]}
//
// ANSWER: {ids: [[...]], answers: [[{content, probs: [{tok_str, prob}]}]]}. Its log goes to stdout.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modules, file, out] = /** @type {[string, string, string]} */ (process.argv.slice(2));
const { loadModel } = createRequire(join(modules, 'x.js'))('@fugood/llama.node');
const { model, mmproj, texts, prompts } = JSON.parse(readFileSync(file, 'utf8'));
const exact = { flash_attn_type: 'off', cache_type_k: 'f32', cache_type_v: 'f32' };
// A context for each: one keeps the probabilities of earlier answers among those of later ones.
/** @param {string[]} media */
const open = async (media) => {
  const options = { model, n_ctx: 512, n_gpu_layers: 0, use_mmap: false, ...exact };
  const context = await loadModel(options);
  if (media.length > 0) await context.initMultimodal({ path: mmproj, use_gpu: false });
  return context;
};
const context = await open([]);
const ids = [];
for (const text of texts) ids.push(Array.from((await context.tokenize(text)).tokens));
await context.release();
const sampling = { top_k: 0, top_p: 1, min_p: 0, typical_p: 1, penalty_repeat: 1, seed: 1 };
const answers = [];
for (const { text, media = [], greedy } of prompts) {
  const context = await open(media);
  const rest = greedy
    ? { n_predict: greedy, temperature: 0, top_k: 1, n_probs: 3 }
    : { n_predict: 1, temperature: 1, n_probs: 4096 };
  const options = { prompt: text, media_paths: media, ...sampling, ...rest };
  answers.push((await context.completion(options)).completion_probabilities);
}
writeFileSync(out, JSON.stringify({ ids, answers }));
process.exit(0);
