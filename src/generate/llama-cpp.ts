/**
 * What llama.cpp reads in a GGUF file: ids of some texts, through @fugood/llama.node, where the folder in which Patina runs has it. In a
 * process of its own: it writes a log to wherever it likes.
 */
import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Tokenizer } from '../text/index.js';

const RUNTIME = '@fugood/llama.node';

const TEXTS = [
  'What is in the picture?',
  "It's 12345 o'clock; we'LL see.\n\n  Two  blanks\tand a tab \n",
  'Grüße, 你好 世界! 🙂 ¼ ²³ naïve',
  ' leading',
  'a\r\nb\r\n\r\n c',
  'for (let i = 0; i < 10; i++) { x[i] += 3.14e-10; }',
];

const SCRIPT = `
const [runtime, model, out, texts] = process.argv.slice(1);
const { loadModel } = require(runtime);
const tokenize = async () => {
  const context = await loadModel({ model, vocab_only: true, n_gpu_layers: 0 });
  const ids = [];
  for (const text of JSON.parse(texts)) ids.push([...(await context.tokenize(text)).tokens]);
  require('node:fs').writeFileSync(out, JSON.stringify(ids));
  process.exit(0);
};
tokenize();
`;

/** @returns a sentence about what it reads, none where it is not installed */
export async function readByLlamaCpp(
  file: string,
  tokenizer: Tokenizer,
): Promise<readonly string[]> {
  const runtime = findRuntime();
  if (runtime === undefined) return [];
  const out = `${file}.ids`;
  try {
    const args = ['-e', SCRIPT, '--', runtime, file, out, JSON.stringify(TEXTS)];
    await promisify(execFile)(process.execPath, args, { maxBuffer: Infinity });
    const read = JSON.parse(await readFile(out, 'utf8')) as number[][];
    const differing = TEXTS.filter((text, i) => tokenizer.encode(text).join() !== read[i]?.join());
    return [
      differing.length === 0
        ? `llama.cpp (${RUNTIME}) reads ${TEXTS.length} of ${TEXTS.length} texts as the same tokens.`
        : `llama.cpp (${RUNTIME}) reads other tokens in ${differing.length} of ${TEXTS.length} texts: ${differing.map((text) => JSON.stringify(text)).join(', ')}.`,
    ];
  } catch (error) {
    const { code, signal } = error as { code?: number; signal?: string };
    return [
      `llama.cpp (${RUNTIME}) could not read the file: it ended with ${signal ?? code ?? 'no answer'}.`,
    ];
  } finally {
    await rm(out, { force: true });
  }
}

function findRuntime(): string | undefined {
  try {
    return createRequire(join(process.cwd(), 'package.json')).resolve(RUNTIME);
  } catch {
    return undefined;
  }
}
