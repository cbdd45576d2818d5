/** `patina export`: a model in the layout of another tool, and what a folder is. */
import { readFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';

import { UsageError } from '../base/errors.js';
import { formatBytes, formatCount } from '../base/format.js';
import { resolveModel } from '../base/hub/resolve.js';
import { describeSource, type SourceDescription } from '../models/export/describe-source.js';
import { exportModel } from '../models/export/export-model.js';
import {
  EXPORT_LAYOUTS,
  type ExportLayout,
  type ExportReport,
} from '../models/export/export-options.js';
import type { DType } from '../torch/index.js';
import { LLAMA3_TEMPLATE } from '../text/llama3-template.js';
import { collect, indexValue, numberValue } from './arguments.js';
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

export function define(command: Command, session: Session): void {
  command
    .argument('<source>', 'folder, file or hub name of a model, a part or an adapter')
    .argument('[out]', 'new folder to write')
    .addOption(
      new Option(
        '--to <layout>',
        'what to write: transformers, the LLaVA authors’, an adapter',
      ).choices(EXPORT_LAYOUTS),
    )
    .option('--inspect', 'say what SOURCE is, and write nothing')
    .option('--llm <dir>', 'decoder, for what SOURCE lacks')
    .option('--vision <dir>', 'CLIP vision tower, for what SOURCE lacks')
    .option('--projector <file>', 'projector, for what SOURCE lacks')
    .option('--base <dir>', 'model beneath adapters')
    .option('--adapter <dir>', 'PEFT adapter on top; may be repeated', collect)
    .option('--merge', 'fold adapters into the weights, computed in fp32')
    .addOption(
      new Option('--dtype <type>', 'of the weights (default: as the embeddings)').choices([
        'bfloat16',
        'float16',
        'float32',
      ]),
    )
    .option(
      '--feature-layer <n>',
      'layer of the tower, where no file says (default: -2)',
      layerValue,
    )
    .addOption(
      new Option('--select <strategy>', 'what the projector sees, where no file says').choices([
        'default',
        'full',
      ]),
    )
    .option('--image-token <id>', 'id of the image token, where no file says', indexValue)
    .option('--lora-alpha <n>', 'alpha of adapters that come without settings', numberValue)
    .option('--chat-template <file>', 'Jinja template to write')
    .option(
      '--allow <name>',
      'tensor that may be unexpected or not finite; may be repeated',
      collect,
    )
    .option('--seed <n>', 'of the rows for added tokens (default: 0)', indexValue)
    .option('--shard-gb <n>', 'gigabytes per file (default: 5)', numberValue)
    .option('--replace', 'replace OUT if it exists')
    .option('--json', 'print one JSON object')
    .action(async (source: string, out: string | undefined, flags: Flags) => {
      const { json = false } = flags;
      const show = (value: object, text: string): void => {
        session.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : text);
      };
      if (flags.inspect === true) {
        const found = await describeSource(await resolveModel(source));
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
  { to, adapter, imageToken, loraAlpha, shardGb, chatTemplate, ...flags }: Flags,
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
    return await exportModel(source, to, out, {
      ...flags,
      adapters: adapter,
      imageTokenId: imageToken,
      ...(shardGb === undefined ? {} : { shardBytes: shardGb * 1e9 }),
      ...(chatTemplate === undefined ? {} : { chatTemplate: await readFile(chatTemplate, 'utf8') }),
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
export function describe({ path, sources, parts, missing, faults }: SourceDescription): string {
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
  for (const fault of faults) lines.push(`  fault: ${fault}`);
  return `${lines.join('\n')}\n`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
