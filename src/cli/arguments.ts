/** Values of options that several commands share. */
import { type Command, InvalidArgumentError, Option } from 'commander';

import type { DType } from '../torch/index.js';

/** For options that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** The options of a command that were given, as they are typed, but for some. */
export function givenOptions(flags: object, but: readonly string[]): string[] {
  return Object.keys(flags)
    .filter((name) => !but.includes(name))
    .map((name) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
}

/** @throws InvalidArgumentError for what is no finite number */
export function numberValue(text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!Number.isFinite(value)) throw new InvalidArgumentError('It is not a number.');
  return value;
}

/** @throws InvalidArgumentError for what is no whole number from 1 */
export function countValue(text: string): number {
  const value = numberValue(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('It is not a whole number from 1.');
  }
  return value;
}

/** @throws InvalidArgumentError for what is no whole number from 0 */
export function indexValue(text: string): number {
  const value = numberValue(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError('It is not a whole number from 0.');
  }
  return value;
}

/** @throws InvalidArgumentError for what is no port */
export function portValue(text: string): number {
  const value = numberValue(text);
  if (!Number.isSafeInteger(value) || value < 0 || value > 65_535) {
    throw new InvalidArgumentError('It is not a whole number from 0 to 65535.');
  }
  return value;
}

/** @throws InvalidArgumentError for what is neither a whole number from 1 nor `gpus` */
export function nprocValue(text: string): number | 'gpus' {
  if (text === 'gpus') return text;
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new InvalidArgumentError(
    'Give a whole number from 1, or `gpus` for one process on each GPU.',
  );
}

const DTYPES: Readonly<Record<string, DType>> = {
  bf16: 'bfloat16',
  bfloat16: 'bfloat16',
  fp16: 'float16',
  float16: 'float16',
  fp32: 'float32',
  float32: 'float32',
};

/** @throws InvalidArgumentError for another type than models are computed in */
export function dtypeValue(text: string): DType {
  const dtype = Object.hasOwn(DTYPES, text) ? DTYPES[text] : undefined;
  if (dtype === undefined) throw new InvalidArgumentError('Use bf16, fp16 or fp32.');
  return dtype;
}

/** What `--changed-base` does. */
export const CHANGED_BASE = 'take what a run stands on also where it has changed since';

/** How pictures become squares. */
export function modeOption(): Option {
  return new Option(
    '--mode <mode>',
    "how pictures become squares; default: as the model's files say, pad without any",
  ).choices(['pad', 'crop', 'squeeze']);
}

/** Whether pictures are turned as their EXIF says. */
export function readingOption(): Option {
  return new Option(
    '--reading <reading>',
    'turn pictures upright by their EXIF, or not; default: as the model says, else turned',
  ).choices(['turned', 'stored']);
}

/** What a model is put together from and how it is loaded: the fields of `ModelFlags`, but for adapters. */
export function addModelOptions(command: Command): Command {
  return command
    .option('--base <model>', 'the model beneath an adapter, where the adapter names another')
    .option('--llm <model>', 'the decoder, where the model has none')
    .option('--vision <model>', 'the vision tower, where the model has none')
    .option('--projector <path>', "a projector, in place of the model's own")
    .option(
      '--template <name>',
      "chat template: llama3_chat, qwen_chat, vicuna, or a Jinja file; default: a run's, else the model's own",
    )
    .option('--tokenizer <model>', "folder or hub name of the tokenizer; default: the model's own")
    .addOption(modeOption())
    .option('--changed-base', CHANGED_BASE)
    .option('--device <device>', 'cpu, cuda or cuda:1; default: the first GPU, if any')
    .option('--dtype <type>', 'bf16, fp16 or fp32; default: as the weights are stored', dtypeValue);
}
