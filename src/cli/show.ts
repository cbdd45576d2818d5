/** `patina show`: what the model sees of the records of a data file, or of a picture. */
import { UsageError } from '../base/errors.js';
import { resolveModel } from '../base/hub/resolve.js';
import type { FitMode } from '../data/image/fit.js';
import { CLIP_BACKGROUND } from '../data/image/normalise.js';
import type { Reading } from '../data/image/rgb-image.js';
import { loadFormat } from '../data/loading/load-format.js';
import { modelBeneath, tokenizerFolder } from '../generate/tokenizer-folder.js';
import type { ChatFormat, SpecialTokens } from '../text/index.js';
import { weightsIn } from '../train/run/run-weights.js';
import type { Session } from './session.js';
import { LoadProgress } from './load-progress.js';
import type { ModelView } from './model-view.js';
import { COLOUR_MARKS, PLAIN_MARKS } from './render-sample.js';
import { requireOut, showPicture } from './show-picture.js';
import { showRecords, type ShowRecordsOptions } from './show-records.js';

export interface ShowFlags {
  model?: string;
  tokenizer?: string;
  data?: string;
  index?: number;
  image?: string;
  out?: string;
  template?: string;
  system?: string;
  changedBase?: boolean;
  maxLength?: number;
  imageTokens?: number;
  size?: number;
  mode?: FitMode;
  reading?: Reading;
  specialTokens: SpecialTokens;
  expand?: boolean;
  json?: boolean;
}

export async function showCommand(flags: ShowFlags, session: Session): Promise<void> {
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
  const { mode, out, json = false } = flags;
  await requireOut(out, file);
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
    ...{ file, size, out, json, session },
    reading: flags.reading ?? view?.provenance?.image?.reading ?? 'turned',
    mode: mode ?? settings?.mode ?? 'pad',
    background: settings?.background ?? CLIP_BACKGROUND,
    tiles: flags.size === undefined ? settings?.tiles : undefined,
    // In tiles they follow from the size of the picture.
    tokens: flags.imageTokens ?? (settings?.tiles === undefined ? view?.image?.tokens : undefined),
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
    encode: {
      ...{ format, maxLength, imageTokens, specialTokens },
      ...{ context: view?.context, system: systemOf(flags, view) },
    },
    tiled: tiledOf(flags, view),
    expand: flags.expand === true ? expansion(format, view) : undefined,
    marks: coloured ? COLOUR_MARKS : PLAIN_MARKS,
  });
}

/** Loading libtorch takes a moment, which is needed for models alone. */
async function viewOf(
  model: string,
  { mode, changedBase }: ShowFlags,
  session: Session,
): Promise<ModelView> {
  const { viewModel } = await import('./model-view.js');
  const progress = new LoadProgress(session.stderr);
  try {
    return await viewModel(await weightsIn(model), {
      ...{ mode, changedBase },
      onDownload: (event) => progress.download(event),
      onNotice: (message) => progress.notice(message),
    });
  } finally {
    progress.end();
  }
}

/** The system text of records without one: as it was asked for, else as the model was trained. */
function systemOf({ system }: ShowFlags, view: ModelView | undefined): string | undefined {
  const text = system ?? view?.provenance?.text.system ?? '';
  return text === '' ? undefined : text;
}

async function formatOf(
  { tokenizer, template }: ShowFlags,
  view: ModelView | undefined,
  session: Session,
): Promise<ChatFormat> {
  if (tokenizer === undefined) {
    if (view !== undefined) {
      const chosen = template ?? view.provenance?.text.template ?? 'auto';
      return loadFormat(view.tokenizer, chosen, view.image !== null);
    }
    throw misuse('Records need a tokenizer.', 'Give --model or --tokenizer.');
  }
  const progress = new LoadProgress(session.stderr);
  const resolve = (name: string): Promise<string> =>
    resolveModel(name, {
      files: ['*.json', '*.jinja'],
      onDownload: (event) => progress.download(event),
    });
  try {
    const named = await resolve(await weightsIn(tokenizer));
    const folder = await tokenizerFolder([named, await modelBeneath(named)], resolve);
    return await loadFormat(folder, template ?? 'auto');
  } finally {
    progress.end();
  }
}

/** What a model says that takes tiles, unless the number of tokens is given. */
function tiledOf(
  { imageTokens, reading }: ShowFlags,
  view: ModelView | undefined,
): ShowRecordsOptions['tiled'] {
  const { tokens, settings } = view?.image ?? {};
  if (imageTokens !== undefined || tokens === undefined || settings?.tiles === undefined) {
    return undefined;
  }
  const image = { tokens, tiles: settings.tiles };
  return { image, reading: reading ?? view?.provenance?.image?.reading ?? 'turned' };
}

function expansion(
  format: ChatFormat,
  view: ModelView | undefined,
): NonNullable<ShowRecordsOptions['expand']> {
  const imageTokenId = view?.image?.tokenId ?? format.tokenizer.imageTokenId;
  if (imageTokenId !== undefined) return { imageTokenId };
  throw misuse(
    `The tokenizer has no token ${format.tokenizer.imageToken} to write pictures as.`,
    'Leave --expand out, or give --model.',
  );
}

function misuse(message: string, hint: string): UsageError {
  return new UsageError(message, { code: 'E_USAGE', hint });
}
