/** `patina export`: a model in the layout of another tool, and what a folder is. */
import { type Command, InvalidArgumentError, Option } from 'commander';

import { DataError, UsageError } from '../base/errors.js';
import { formatBytes, formatCount } from '../base/format.js';
import { resolveModel } from '../base/hub/resolve.js';
import { readSmallText } from '../formats/small-file.js';
import { describeSource, type SourceDescription } from '../models/export/describe-source.js';
import { exportModel } from '../models/export/export-model.js';
import {
  EXPORT_LAYOUTS,
  type ExportLayout,
  type ExportReport,
} from '../models/export/export-options.js';
import type { DType } from '../torch/index.js';
import { compileTemplate } from '../text/jinja.js';
import { LLAMA3_TEMPLATE } from '../text/llama3-template.js';
import { weightsIn } from '../train/run/run-weights.js';
import { collect, dtypeValue, indexValue, numberValue } from './arguments.js';
import type { Session } from './commands.js';
import { LoadProgress } from './load-progress.js';

interface Flags {
  to?: ExportLayout;
  inspect?: boolean;
  llm?: string;
  vision?: string;
  projector?: string;
  base?: string;
  adapter?: string[];
  merge?: boolean;
  dtype?: DType;
  featureLayer?: number;
  select?: 'default' | 'full';
  imageToken?: number;
  loraAlpha?: number;
  chatTemplate?: string;
  allow?: string[];
  seed?: number;
  shardGb?: number;
  replace?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  patina export --inspect MODEL
  patina export MODEL --to hf OUT
  patina export runs/NAME --merge --to hf OUT
  patina export iter_100.pth --llm LLAMA --vision CLIP --to hf OUT

Where OUT exists, nothing is written without --replace. docs/formats.md explains
the layouts.`;

export function define(command: Command, session: Session): void {
  command
    .argument('<source>', 'folder, file or hub name: a model, a part of one, an adapter, or a run')
    .argument('[out]', 'folder to write')
    .addOption(
      new Option(
        '--to <layout>',
        'write a folder for transformers (hf), for the code of LLaVA’s authors (official), or an adapter for PEFT (peft)',
      ).choices(EXPORT_LAYOUTS),
    )
    .option('--inspect', 'say what SOURCE is, and write nothing')
    .option('--llm <model>', 'decoder with its tokenizer, for what SOURCE lacks')
    .option('--vision <model>', 'CLIP vision tower, for what SOURCE lacks')
    .option('--projector <model>', 'projector, for what SOURCE lacks')
    .option('--base <model>', 'model beneath adapters (default: the one that they name)')
    .option('--adapter <adapter>', 'adapter on top of SOURCE; may be repeated', collect)
    .option('--merge', 'fold adapters into the weights, computed in fp32')
    .option(
      '--dtype <type>',
      'type of the weights: bf16, fp16 or fp32 (default: that of the embeddings)',
      dtypeValue,
    )
    .option(
      '--feature-layer <n>',
      'layer of the tower that is read, where no file says; -1 is the last (default: -2)',
      layerValue,
    )
    .addOption(
      new Option(
        '--select <strategy>',
        'patches (default) or the class token too (full), where no file says',
      ).choices(['default', 'full']),
    )
    .option(
      '--image-token <id>',
      'id of the image token (default: what a file says, else a token is added)',
      indexValue,
    )
    .option('--lora-alpha <n>', 'alpha of adapters that come without settings', numberValue)
    .option(
      '--chat-template <file>',
      'Jinja file to write as chat template (default: the source’s)',
    )
    .option(
      '--allow <name>',
      'tensor that may be unexpected (it is left out) or not finite; a name, or a beginning and *; may be repeated',
      collect,
    )
    .option('--seed <n>', 'seed of the rows for added tokens (default: 0)', indexValue)
    .option('--shard-gb <n>', 'most gigabytes per file of weights (default: 5)', positiveValue)
    .option('--replace', 'put the new folder in place of an older one')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (source: string, out: string | undefined, flags: Flags) => {
      const { json = false } = flags;
      const show = (value: object, text: string): void => {
        session.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : text);
      };
      if (flags.inspect === true) {
        if (out !== undefined || flags.to !== undefined) {
          throw new UsageError('--inspect writes nothing, and so takes no OUT and no --to.', {
            code: 'E_USAGE',
            hint: 'Leave out one or the other.',
          });
        }
        const found = await describeSource(await resolveModel(await weightsIn(source)));
        show(found, describe(found));
        return;
      }
      const report = await write(source, out, flags, session);
      show(report, summary(report));
    });
}

async function write(
  source: string,
  out: string | undefined,
  {
    to,
    llm,
    vision,
    projector,
    base,
    adapter,
    imageToken,
    loraAlpha,
    shardGb,
    chatTemplate,
    ...flags
  }: Flags,
  session: Session,
): Promise<ExportReport> {
  if (to === undefined || out === undefined) {
    throw new UsageError(`${to === undefined ? '--to' : 'OUT'} is missing.`, {
      code: 'E_USAGE',
      hint: 'Use `patina export SOURCE --to hf OUT`, or `patina export --inspect SOURCE`.',
    });
  }
  const progress = new LoadProgress(session.stderr);
  try {
    return await exportModel(await weightsIn(source), to, out, {
      ...flags,
      llm: await weightsIn(llm),
      vision: await weightsIn(vision),
      projector: await weightsIn(projector),
      base: await weightsIn(base),
      adapters: await Promise.all((adapter ?? []).map((each) => weightsIn(each))),
      imageTokenId: imageToken,
      ...(shardGb === undefined ? {} : { shardBytes: shardGb * 1e9 }),
      ...(chatTemplate === undefined ? {} : { chatTemplate: await readTemplate(chatTemplate) }),
      ...(loraAlpha === undefined
        ? {}
        : {
            adapterConfig: {
              alpha: loraAlpha,
              alphaPattern: new Map(),
              dropout: 0,
              rsLora: false,
              dora: false,
            },
          }),
      resolve: (name) => resolveModel(name, { onProgress: (event) => progress.download(event) }),
      templateFor: (has) =>
        has('<|start_header_id|>') && has('<|eot_id|>') ? LLAMA3_TEMPLATE : undefined,
      onProgress: (done, total) => progress.read(done, total),
    });
  } finally {
    progress.end();
  }
}

async function readTemplate(file: string): Promise<string> {
  const source = await readSmallText(file);
  if (source === undefined) {
    throw new DataError(`${file} does not exist.`, {
      code: 'E_FILE_MISSING',
      hint: 'Name a Jinja file (--chat-template).',
    });
  }
  compileTemplate(source, { name: file });
  return source;
}

function positiveValue(text: string): number {
  const value = numberValue(text);
  if (value > 0) return value;
  throw new InvalidArgumentError('It is not above 0.');
}

function layerValue(text: string): number {
  const layer = numberValue(text);
  if (Number.isSafeInteger(layer)) return layer;
  throw new InvalidArgumentError('It is not a whole number.');
}

function summary({ folder, layout, files, parameters, bytes, dtype, notes }: ExportReport): string {
  const what = { hf: 'transformers', official: "the LLaVA authors' code", peft: 'PEFT' }[layout];
  const head = `${folder}: for ${what}, ${formatCount(parameters)} parameters in ${dtype}, ${formatBytes(bytes)} in ${count(files.length, 'file')}\n`;
  return head + notes.map((note) => `  ${note}\n`).join('');
}

/** The description as text. */
export function describe(found: SourceDescription): string {
  const { path, sources, parts, missing, lacks, faults } = found;
  const lines = [path];
  for (const source of sources) {
    const adapter = source.isAdapter ? 'adapter, ' : '';
    lines.push(`  ${source.path === path ? '' : `${source.path}: `}${source.title}`);
    lines.push(
      `    ${adapter}${count(source.tensors, 'tensor')} in ${count(source.files.length, 'file')}`,
    );
    for (const [why, number] of Object.entries(source.ignored)) {
      lines.push(`    ignored: ${count(number, 'tensor')} (${why})`);
    }
    for (const name of source.unexpected) lines.push(`    unexpected: ${name}`);
  }
  for (const [part, facts] of Object.entries(parts)) {
    const { tensors, parameters, bytes, dtypes, isAdapter } = facts;
    lines.push(
      `  ${part.padEnd(10)}${formatCount(parameters)} parameters in ${count(tensors, 'tensor')}, ${dtypes.join(', ')}, ${formatBytes(bytes)}${isAdapter ? ', adapter' : ''}`,
    );
  }
  if (missing.length > 0) lines.push(`  missing parts: ${missing.join(', ')}`);
  if (lacks.length > 0) lines.push(`  not beside it: ${lacks.join(', ')}`);
  for (const fault of faults) lines.push(`  fault: ${fault}`);
  return `${lines.join('\n')}\n`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
