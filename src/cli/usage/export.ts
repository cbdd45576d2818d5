/** How `patina export` is used. */
import { type Command, InvalidArgumentError, Option } from 'commander';

import { EXPORT_LAYOUTS, GGUF_FILE_TYPES } from '../../models/export/export-options.js';
import { CHANGED_BASE, collect, dtypeValue, indexValue, numberValue } from '../arguments.js';
import type { ExportFlags } from '../export.js';
import type { Session } from '../session.js';

const EXAMPLES = `
Examples:
  patina export --inspect MODEL
  patina export MODEL --to hf OUT
  patina export runs/NAME --merge --to hf OUT
  patina export runs/NAME --to gguf OUT --type q8_0 --check
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
        "write a folder for transformers (hf), for the code of LLaVA's authors (official), for llama.cpp and Ollama (gguf), or an adapter for PEFT (peft)",
      ).choices(EXPORT_LAYOUTS),
    )
    .option('--inspect', 'say what SOURCE is, and write nothing')
    .option('--llm <model>', 'decoder with its tokenizer, for what SOURCE lacks')
    .option('--vision <model>', 'CLIP or SigLIP vision tower, for what SOURCE lacks')
    .option('--projector <model>', "projector, in place of SOURCE's own")
    .option('--base <model>', 'model beneath adapters (default: the one that they name)')
    .option('--adapter <adapter>', 'adapter on top of SOURCE; may be repeated', collect)
    .option('--changed-base', CHANGED_BASE)
    .option('--merge', 'fold adapters into the weights, computed in fp32')
    .option(
      '--dtype <type>',
      'type of the weights: bf16, fp16 or fp32 (default: that of the embeddings)',
      dtypeValue,
    )
    .addOption(
      new Option(
        '--quantise <form>',
        "with --to hf: write the matrices of the decoder's blocks in 4 bits as bitsandbytes does (nf4), or their scales in 8 bits too (nf4-double)",
      ).choices(['nf4', 'nf4-double']),
    )
    .addOption(
      new Option(
        '--type <type>',
        "with --to gguf: type of the decoder's matrices (default: f16)",
      ).choices(GGUF_FILE_TYPES),
    )
    .option('--check', 'with --to gguf: read the files back and compare every tensor')
    .option(
      '--feature-layer <n>',
      'layer of the tower that is read, where no file says; -1 is the last (default: -2)',
      layerValue,
    )
    .addOption(
      new Option(
        '--select <strategy>',
        "all that the tower gives (full), or all but the first, CLIP's class token (default); else the patches, where no file says",
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
      "Jinja file to write as chat template (default: the source's)",
    )
    .option(
      '--allow <name>',
      'tensor that may be unexpected (it is left out) or not finite; * in its name is anything; may be repeated',
      collect,
    )
    .option('--seed <n>', 'seed of the rows for added tokens (default: 0)', indexValue)
    .option('--shard-gb <n>', 'most gigabytes per file of weights (default: 5)', positiveValue)
    .option('--replace', 'put the new folder in place of an older one')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (source: string, out: string | undefined, flags: ExportFlags) => {
      const { exportCommand } = await import('../export.js');
      await exportCommand(source, out, flags, session);
    });
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
