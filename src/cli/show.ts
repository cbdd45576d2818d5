/** `patina show`: what the model sees of the records of a data file, or of a picture. */
import { type Command, Option } from 'commander';

import { UsageError } from '../base/errors.js';
import { resolveModel } from '../base/hub/resolve.js';
import type { FitMode } from '../data/image/fit.js';
import { CLIP_BACKGROUND } from '../data/image/normalise.js';
import type { Reading } from '../data/image/rgb-image.js';
import { loadFormat } from '../data/loading/load-format.js';
import { modelBeneath, tokenizerFolder } from '../generate/tokenizer-folder.js';
import type { ChatFormat, SpecialTokens } from '../text/index.js';
import { weightsIn } from '../train/run/run-weights.js';
import { countValue, indexValue } from './arguments.js';
import type { Session } from './commands.js';
import { LoadProgress } from './load-progress.js';
import type { ModelView } from './model-view.js';
import { COLOUR_MARKS, PLAIN_MARKS } from './render-sample.js';
import { showPicture } from './show-picture.js';
import { showRecords, type ShowRecordsOptions } from './show-records.js';

interface ShowFlags {
  model?: string;
  tokenizer?: string;
  data?: string;
  index?: number;
  image?: string;
  out?: string;
  template?: string;
  maxLength?: number;
  imageTokens?: number;
  size?: number;
  mode?: FitMode;
  reading: Reading;
  specialTokens: SpecialTokens;
  expand?: boolean;
  json?: boolean;
}

export function define(command: Command, session: Session): void {
  command
    .option('--model <model>', 'folder or hub name of the model, or a run')
    .option(
      '--tokenizer <model>',
      'folder or hub name of the tokenizer; then --data needs no model',
    )
    .option('--data <file>', 'show records of this file, folder or hub name')
    .option('--index <n>', 'only this record, from 0', indexValue)
    .option('--image <file>', 'show a picture; with --size it needs no model')
    .option('--out <file.png>', 'write the pixels of the picture after resizing')
    .option(
      '--template <name>',
      "chat template: llama3_chat, vicuna, or a Jinja file; default: the tokenizer's own",
    )
    .option('--max-length <n>', 'cut records after so many tokens', countValue)
    .option(
      '--image-tokens <n>',
      "count a picture as so many tokens; default: the model's, 1 without one",
      countValue,
    )
    .option(
      '--size <pixels>',
      "side of the square that pictures become; default: the model's",
      countValue,
    )
    .addOption(
      new Option(
        '--mode <mode>',
        'how pictures become squares; default: as the model says, else pad',
      ).choices(['pad', 'crop']),
    )
    .addOption(
      new Option('--reading <reading>', 'turn pictures upright by their EXIF, or not')
        .choices(['turned', 'stored'])
        .default('turned'),
    )
    .addOption(
      new Option('--special-tokens <what>', 'what text that spells a special token is')
        .choices(['text', 'parse'])
        .default('text'),
    )
    .option('--expand', 'with --json: write a picture as its tokens, not as one -200')
    .option(
      '--json',
      'one line for each record: {id, input_ids, labels}, or {id, error}; one object for a picture',
    )
    .addHelpText(
      'after',
      `
Examples:
  patina show --model MODEL --data data.json --index 0
  patina show --tokenizer MODEL --data data.json --json
  patina show --model MODEL --image photo.jpg --out seen.png

Exit code: 4 if a record is bad.`,
    )
    .action((flags: ShowFlags) => show(flags, session));
}

async function show(flags: ShowFlags, session: Session): Promise<void> {
  const { data, image, json = false } = flags;
  if ((data === undefined) === (image === undefined)) {
    throw misuse('Either --data or --image is to be shown.', 'Give one of them.');
  }
  if (flags.expand === true && !json) {
    throw misuse('--expand is about --json.', 'Give both, or neither.');
  }
  if (image !== undefined) await showImage(image, flags, session);
  else await showData(data!, flags, session);
}

async function showImage(file: string, flags: ShowFlags, session: Session): Promise<void> {
  const { mode, reading, out, json = false } = flags;
  const view = flags.model === undefined ? undefined : await viewOf(flags.model, flags, session);
  const settings = view?.image?.settings;
  const size = flags.size ?? settings?.size;
  if (size === undefined) {
    throw misuse(
      view === undefined ? 'Nothing says the size of pictures.' : 'The model takes no pictures.',
      'Give --size, or the --model of a LLaVA.',
    );
  }
  await showPicture({
    ...{ file, size, reading, out, json, session },
    mode: mode ?? settings?.mode ?? 'pad',
    background: settings?.background ?? CLIP_BACKGROUND,
    tokens: flags.imageTokens ?? view?.image?.tokens,
  });
}

async function showData(data: string, flags: ShowFlags, session: Session): Promise<void> {
  const { index, json = false, maxLength, specialTokens } = flags;
  if (flags.out !== undefined) {
    throw misuse('--out writes the pixels of --image.', 'Name a picture with --image.');
  }
  const view = flags.model === undefined ? undefined : await viewOf(flags.model, flags, session);
  const format = await formatOf(flags, view, session);
  const imageTokens = flags.imageTokens ?? view?.image?.tokens ?? 1;
  const coloured = session.stdout.isTTY === true && (process.env['NO_COLOR'] ?? '') === '';
  await showRecords({
    ...{ data, index, json, session },
    encode: { format, maxLength, imageTokens, specialTokens },
    expand: flags.expand === true ? expansion(format, view, imageTokens) : undefined,
    marks: coloured ? COLOUR_MARKS : PLAIN_MARKS,
  });
}

/** Loading libtorch takes a moment, which is needed for models alone. */
async function viewOf(model: string, { mode }: ShowFlags, session: Session): Promise<ModelView> {
  const { viewModel } = await import('./model-view.js');
  const progress = new LoadProgress(session.stderr);
  try {
    return await viewModel(await weightsIn(model), {
      mode,
      onDownload: (event) => progress.download(event),
    });
  } finally {
    progress.end();
  }
}

async function formatOf(
  { tokenizer, template = 'auto' }: ShowFlags,
  view: ModelView | undefined,
  session: Session,
): Promise<ChatFormat> {
  if (tokenizer === undefined) {
    if (view !== undefined) return loadFormat(view.tokenizer, template);
    throw misuse('Records need a tokenizer.', 'Give --model or --tokenizer.');
  }
  const progress = new LoadProgress(session.stderr);
  const resolve = (name: string): Promise<string> =>
    resolveModel(name, {
      files: ['*.json', '*.jinja'],
      onProgress: (event) => progress.download(event),
    });
  try {
    const named = await resolve(await weightsIn(tokenizer));
    const folder = await tokenizerFolder([named, await modelBeneath(named)], resolve);
    return await loadFormat(folder, template);
  } finally {
    progress.end();
  }
}

function expansion(
  format: ChatFormat,
  view: ModelView | undefined,
  imageTokens: number,
): NonNullable<ShowRecordsOptions['expand']> {
  const imageTokenId = view?.image?.tokenId ?? format.tokenizer.imageTokenId;
  if (imageTokenId !== undefined) return { imageTokens, imageTokenId };
  throw misuse(
    `The tokenizer has no token ${format.tokenizer.imageToken} to write pictures as.`,
    'Leave --expand out, or give --model.',
  );
}

function misuse(message: string, hint: string): UsageError {
  return new UsageError(message, { code: 'E_USAGE', hint });
}
