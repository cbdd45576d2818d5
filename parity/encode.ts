/**
 * Ids and labels against XTuner's own, and ids of the tokenizer's chat template against transformers', for any file of
 * the shape of `test/fixtures/encode/cases.jsonl`. docs/encoding.md lists where Patina differs from XTuner on purpose;
 * each such case is held against what it has to be instead.
 */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { z } from 'zod';

import { DataError, UsageError } from '../src/base/errors.js';
import { encodeJson, type EncodeOutcome } from '../src/data/encode.js';
import { IMAGE_ID } from '../src/models/sample.js';
import type { ChatFormat } from '../src/text/chat-format.js';
import { createFormat } from '../src/text/format.js';
import { loadTokenizer } from '../src/text/load-tokenizer.js';
import { textMessage, type Message, type Role } from '../src/text/message.js';
import type { SpecialTokens } from '../src/text/span-encoder.js';
import type { Tokenizer } from '../src/text/tokenizer.js';
import { isXtunerFormat } from '../src/text/xtuner-format.js';
import { parityArguments } from './arguments.js';
import { Report } from './report.js';

const caseShape = z.object({
  id: z.string(),
  tokenizer: z.string(),
  template: z.string(),
  map_fn: z.string().nullable(),
  max_length: z.number(),
  record: z.record(z.string(), z.unknown()),
  input_ids: z.array(z.number()).optional(),
  labels: z.array(z.number()).optional(),
  kept: z.boolean().optional(),
  hf_template_ids: z.array(z.number()).nullish(),
});
type Case = z.infer<typeof caseShape>;

/** What a case was held against, for the summary. */
type Verdict =
  | 'equal to XTuner'
  | 'spells a special token: equal when parsed'
  | 'several images in a message: all kept'
  | 'images and placeholders differ in number: refused'
  | 'an image beyond max_length: refused'
  | 'dropped by XTuner: refused'
  | 'XTuner raises: not compared'
  | 'another map function or template: not compared';

export async function run(argv: string[]): Promise<boolean> {
  const { path, values } = parityArguments(argv, 'encode', { tokenizer: { type: 'string' } });
  if (values.tokenizer === undefined) {
    throw new UsageError('parity encode needs --tokenizer DIR.', {
      code: 'E_USAGE',
      hint: 'Name the folder of the tokenizer, or the folder that holds the tokenizers the cases name.',
    });
  }
  const cases = await readCases(path);
  const tokenizers = await findTokenizers(cases, path, values.tokenizer);
  const comparison = new Comparison(tokenizers);
  for (const item of cases) {
    comparison.xtuner(item);
    comparison.template(item);
  }
  return comparison.print();
}

class Comparison {
  readonly #report = new Report();
  readonly #tokenizers: ReadonlyMap<string, Tokenizer>;
  readonly #formats = new Map<string, ChatFormat>();
  readonly #counts = new Map<string, number>();

  constructor(tokenizers: ReadonlyMap<string, Tokenizer>) {
    this.#tokenizers = tokenizers;
  }

  /** One case against XTuner's ids and labels. */
  xtuner(item: Case): void {
    const { verdict, faults } = this.#holdAgainstXtuner(item);
    this.#count(verdict);
    if (faults !== undefined) this.#report.add({ quantity: item.id, error: faults, note: verdict });
  }

  #holdAgainstXtuner(item: Case): { verdict: Verdict; faults?: number } {
    if (item.map_fn !== 'llava_map_fn' || !isXtunerFormat(item.template)) {
      return { verdict: 'another map function or template: not compared' };
    }
    if (item.kept === undefined) return { verdict: 'XTuner raises: not compared' };
    const asText = this.#encode(item, 'text', undefined);
    const spells =
      asText.status === 'sample' && asText.sample.warnings.includes('special-tokens-as-text');
    const outcome = this.#encode(item, spells ? 'parse' : 'text', item.max_length);
    const refusedAs = (code: string): number =>
      outcome.status === 'bad' && outcome.problem.code === code ? 0 : 1;
    const whole = this.#encode(item, 'parse', undefined);
    const { places, images, several } = countImages(item.record);
    // With one image in the place of several, XTuner's own count decides whether a label is left.
    if (!item.kept && !(several && whole.status === 'sample')) {
      return { verdict: 'dropped by XTuner: refused', faults: outcome.status === 'bad' ? 0 : 1 };
    }
    if (places !== images) {
      return {
        verdict: 'images and placeholders differ in number: refused',
        faults: refusedAs('E_RECORD_IMAGES'),
      };
    }
    const imagesOf = (ids: ArrayLike<number>): number =>
      Array.from(ids).filter((id) => id === IMAGE_ID).length;
    if (several) {
      const kept = whole.status === 'sample' && imagesOf(whole.sample.inputIds) === images;
      return { verdict: 'several images in a message: all kept', faults: kept ? 0 : 1 };
    }
    if (whole.status === 'sample' && imagesOf(whole.sample.inputIds) > imagesOf(item.input_ids!)) {
      return { verdict: 'an image beyond max_length: refused', faults: refusedAs('E_IMAGE_CUT') };
    }
    return {
      verdict: spells ? 'spells a special token: equal when parsed' : 'equal to XTuner',
      faults:
        outcome.status === 'sample'
          ? differences(outcome.sample.inputIds, item.input_ids!) +
            differences(outcome.sample.labels, item.labels!)
          : Infinity,
    };
  }

  /** The tokenizer's chat template against transformers', which takes text that spells a special token for the token. */
  template(item: Case): void {
    const messages = item.hf_template_ids ? rawMessages(item.record) : undefined;
    const tokenizer = this.#tokenizers.get(item.tokenizer)!;
    if (!messages || tokenizer.chatTemplate === undefined) return;
    const format = this.#format(item.tokenizer);
    const spells = messages.some(({ content }) =>
      content.some((part) => part.type === 'text' && tokenizer.spellsToken(part.text)),
    );
    for (const specialTokens of spells ? (['parse'] as const) : (['parse', 'text'] as const)) {
      const { ids } = format.training(messages, { specialTokens });
      this.#report.add({
        quantity: `${item.id} chat template (special tokens: ${specialTokens})`,
        error: differences(ids, item.hf_template_ids!),
      });
    }
    this.#count('equal to the chat template in transformers');
  }

  print(): boolean {
    for (const [what, count] of this.#counts) console.log(`${String(count).padStart(5)}  ${what}`);
    return this.#report.print({ brief: true });
  }

  #encode(item: Case, specialTokens: SpecialTokens, maxLength: number | undefined): EncodeOutcome {
    const format = this.#format(item.tokenizer, item.template);
    return encodeJson(item.record, { format, maxLength, specialTokens });
  }

  #format(name: string, template?: string): ChatFormat {
    const key = `${name} ${template ?? ''}`;
    const format =
      this.#formats.get(key) ?? createFormat(this.#tokenizers.get(name)!, { template });
    this.#formats.set(key, format);
    return format;
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }
}

async function readCases(path: string): Promise<Case[]> {
  let bytes;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`${path} cannot be read: ${(cause as Error).message}.`, {
      code: 'E_FILE',
      hint: 'Name a file of cases, one JSON object a line.',
      cause,
    });
  }
  const text = (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return [];
    try {
      return [caseShape.parse(JSON.parse(line))];
    } catch (cause) {
      throw new DataError(`${path}:${i + 1} is not a case: ${(cause as Error).message}`, {
        code: 'E_FILE',
        hint: 'Name a file of the shape of test/fixtures/encode/cases.jsonl.',
        cause,
      });
    }
  });
}

/**
 * The tokenizers that the cases name. Each is looked for in `folder`, as `folder` itself, beside it, and beside the
 * cases; what is not found by name is `folder`.
 */
async function findTokenizers(
  cases: readonly Case[],
  file: string,
  folder: string,
): Promise<Map<string, Tokenizer>> {
  const at = resolve(folder);
  const tokenizers = new Map<string, Tokenizer>();
  for (const name of new Set(cases.map(({ tokenizer }) => tokenizer))) {
    const candidates = [
      join(at, name),
      ...(basename(at) === name ? [at] : []),
      join(dirname(at), name),
      join(dirname(resolve(file)), name),
    ];
    const found = await firstWithTokenizer(candidates);
    tokenizers.set(name, await loadTokenizer(found ?? at));
  }
  return tokenizers;
}

async function firstWithTokenizer(folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    const found = await stat(join(folder, 'tokenizer.json')).catch(() => undefined);
    if (found?.isFile()) return folder;
  }
  return undefined;
}

/** Placeholders in questions and images of a LLaVA record, and whether a message has more than one. */
function countImages(record: Case['record']): { places: number; images: number; several: boolean } {
  const image = record['image'] ?? [];
  const perMessage = (record['conversations'] as { from: string; value: string }[])
    .filter(({ from }) => from === 'human' || from === 'user')
    .map(({ value }) => value.split('<image>').length - 1);
  return {
    images: Array.isArray(image) ? image.length : 1,
    places: perMessage.reduce((sum, count) => sum + count, 0),
    several: perMessage.some((count) => count > 1),
  };
}

/** The messages as transformers was given them: roles renamed, `<image>` plain text; undefined if one is no text. */
function rawMessages(record: Case['record']): Message[] | undefined {
  const roles: Readonly<Record<string, Role>> = {
    ...{ human: 'user', user: 'user', gpt: 'assistant', assistant: 'assistant', system: 'system' },
  };
  const pairs = (record['conversation'] ?? []) as Record<string, unknown>[];
  const native = pairs.flatMap(({ system, input, output }) => [
    ...(typeof system === 'string' && system !== '' ? [['system', system]] : []),
    ...[
      ['human', input],
      ['gpt', output],
    ],
  ]);
  const listed = ((record['conversations'] ?? []) as Record<string, unknown>[]).map(
    ({ from, value }) => [from, value],
  );
  const messages = [...native, ...listed].flatMap(([from, value]) => {
    const role = roles[String(from)];
    const whole = typeof value === 'string' && !/\p{Surrogate}/u.test(value);
    return role && whole ? [textMessage(role, value)] : [];
  });
  return messages.length === native.length + listed.length ? messages : undefined;
}

/** Positions at which two lists differ, those that one lacks included. */
function differences(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let count = 0;
  for (let i = 0; i < Math.max(a.length, b.length); i++) if (a[i] !== b[i]) count++;
  return count;
}
