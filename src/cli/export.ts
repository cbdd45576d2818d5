/** `patina export`: a model in the layout of another tool, and what a folder is. */
import { DataError, UsageError } from '../base/errors.js';
import { formatBytes, formatCount, plural } from '../base/format.js';
import { resolveModel } from '../base/hub/resolve.js';
import { jsonText } from '../base/json-text.js';
import { readSmallText } from '../formats/small-file.js';
import { checkExport } from '../models/export/check-export.js';
import { describeSource, type SourceDescription } from '../models/export/describe-source.js';
import { exportChatModel } from '../generate/export-chat-model.js';
import {
  EXPORT_LAYOUTS,
  type ExportLayout,
  type ExportReport,
  type GgufCheck,
  type GgufFileType,
} from '../models/export/export-options.js';
import type { DType } from '../torch/index.js';
import { compileTemplate } from '../text/jinja.js';
import { CHATML_TEMPLATE } from '../text/chatml-template.js';
import { LLAMA3_TEMPLATE } from '../text/llama3-template.js';
import { weightsIn } from '../train/run/run-weights.js';
import { givenOptions } from './arguments.js';
import type { Session } from './session.js';
import { LoadProgress } from './load-progress.js';

export interface ExportFlags {
  to?: ExportLayout;
  inspect?: boolean;
  llm?: string;
  vision?: string;
  projector?: string;
  base?: string;
  adapter?: string[];
  changedBase?: boolean;
  merge?: boolean;
  dtype?: DType;
  quantise?: 'nf4' | 'nf4-double';
  type?: GgufFileType;
  check?: boolean;
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

export async function exportCommand(
  source: string,
  out: string | undefined,
  flags: ExportFlags,
  session: Session,
): Promise<void> {
  const { json = false } = flags;
  const show = (value: object, text: string): void => {
    session.stdout.write(json ? jsonText(value) : text);
  };
  if (flags.inspect === true) {
    refuseBesideInspect(out, flags);
    const found = await describeSource(await resolveModel(await weightsIn(source)));
    show(found, describe(found));
    return;
  }
  const report = await write(source, out, flags, session);
  show(report, summary(report));
}

/** @throws UsageError `E_USAGE` for what would have no effect: SOURCE alone is looked at, and nothing is written */
function refuseBesideInspect(out: string | undefined, flags: ExportFlags): void {
  const options = givenOptions(flags, ['inspect', 'json']);
  const unused = [...(out === undefined ? [] : ['OUT']), ...options];
  if (unused.length === 0) return;
  throw new UsageError(
    `--inspect says what SOURCE is by itself, and so takes no ${unused.join(' and no ')}.`,
    { code: 'E_USAGE', hint: 'Leave out one or the other.' },
  );
}

/** An exported model outlives the checkpoint that it came from. */
const CHECK = { thorough: true };

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
    quantise,
    type,
    check,
    ...flags
  }: ExportFlags,
  session: Session,
): Promise<ExportReport> {
  if (to === undefined || out === undefined) {
    const missing =
      to === undefined
        ? `For whom to write is missing: --to ${EXPORT_LAYOUTS.join('|')}.`
        : 'OUT, the folder to write, is missing.';
    throw new UsageError(missing, {
      code: 'E_USAGE',
      hint: 'Use `patina export SOURCE --to hf OUT`, or `patina export --inspect SOURCE`.',
    });
  }
  const options = {
    ...flags,
    imageTokenId: imageToken,
    ggufType: type,
    ...(check && { check }),
    ...(quantise && { quantise: { doubleQuantised: quantise === 'nf4-double' } }),
    ...(shardGb !== undefined && { shardBytes: shardGb * 1e9 }),
    ...(chatTemplate !== undefined && { chatTemplate: await readTemplate(chatTemplate) }),
    ...(loraAlpha !== undefined && { adapterConfig: plainLora(loraAlpha) }),
  };
  // Sums over the weights of runs take a while.
  await checkExport(to, out, options);
  const progress = new LoadProgress(session.stderr);
  try {
    return await exportChatModel(await weightsIn(source, CHECK), to, out, {
      ...options,
      llm: await weightsIn(llm, CHECK),
      vision: await weightsIn(vision, CHECK),
      projector: await weightsIn(projector, CHECK),
      base: await weightsIn(base, CHECK),
      adapters: await Promise.all((adapter ?? []).map((each) => weightsIn(each, CHECK))),
      resolve: (name) => resolveModel(name, { onDownload: (event) => progress.download(event) }),
      templateFor: templateWithPictures,
      onNotice: (message) => progress.notice(message),
      onProgress: (done, total) => progress.read(done, total),
    });
  } finally {
    progress.end();
  }
}

/** Settings of adapters that come without any. */
function plainLora(alpha: number) {
  return { alpha, alphaPattern: new Map(), dropout: 0, rsLora: false, dora: false };
}

/** A template with places for pictures, of the form whose tokens there are. */
function templateWithPictures(has: (token: string) => boolean): string | undefined {
  if (has('<|start_header_id|>') && has('<|eot_id|>')) return LLAMA3_TEMPLATE;
  return has('<|im_start|>') && has('<|im_end|>') ? CHATML_TEMPLATE : undefined;
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

const READERS: Readonly<Record<ExportLayout, string>> = {
  hf: 'transformers',
  official: "the LLaVA authors' code",
  peft: 'PEFT',
  gguf: 'llama.cpp',
};

function summary(report: ExportReport): string {
  const { folder, layout, files, parameters, bytes, dtype, notes, checked = [] } = report;
  const what = READERS[layout];
  const head = `${folder}: for ${what}, ${formatCount(parameters)} parameters in ${dtype}, ${formatBytes(bytes)} in ${plural(files.length, 'file')}\n`;
  return head + [...notes, ...checked.map(checkLine)].map((note) => `  ${note}\n`).join('');
}

function checkLine({ file, tensors, relativeErrors }: GgufCheck): string {
  const errors = Object.entries(relativeErrors).map(
    ([type, error]) => `; ${type}: relative error ${(100 * error).toFixed(2)} %`,
  );
  return `${file} was read back: ${plural(tensors, 'tensor')} as in the source${errors.join('')}.`;
}

/** The description as text. */
export function describe(found: SourceDescription): string {
  const { path, sources, parts, beneath, missing, lacks, faults } = found;
  const lines = [path];
  for (const source of sources) {
    const adapter = source.isAdapter ? 'adapter, ' : '';
    lines.push(`  ${source.path === path ? '' : `${source.path}: `}${source.title}`);
    lines.push(
      `    ${adapter}${plural(source.tensors, 'tensor')} in ${plural(source.files.length, 'file')}`,
    );
    for (const [why, number] of Object.entries(source.ignored)) {
      lines.push(`    ignored: ${plural(number, 'tensor')} (${why})`);
    }
    for (const name of source.unexpected) lines.push(`    unexpected: ${name}`);
  }
  for (const [part, facts] of Object.entries(parts)) {
    const { tensors, parameters, bytes, dtypes, isAdapter } = facts;
    lines.push(
      `  ${part.padEnd(10)}${formatCount(parameters)} parameters in ${plural(tensors, 'tensor')}, ${dtypes.join(', ')}, ${formatBytes(bytes)}${isAdapter ? ', adapter' : ''}`,
    );
  }
  for (const { role, name } of beneath) lines.push(`  stands on: ${name} (${role})`);
  if (missing.length > 0) lines.push(`  missing parts: ${missing.join(', ')}`);
  if (lacks.length > 0) lines.push(`  not beside it: ${lacks.join(', ')}`);
  for (const fault of faults) lines.push(`  fault: ${fault}`);
  return `${lines.join('\n')}\n`;
}
