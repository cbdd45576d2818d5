/** How a model sees records and pictures, from its configuration and the heads of its files: no weight is read. */
import { type HubEvent, resolveModel } from '../base/hub/resolve.js';
import type { FitMode } from '../data/image/fit.js';
import { type PictureSettings, readPictureSettings } from '../generate/picture.js';
import { modelBeneath, tokenizerFolder } from '../generate/tokenizer-folder.js';
import { assembleAny, Llava } from '../models/index.js';

export interface ModelView {
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  /** `null` for a decoder alone. */
  readonly image: {
    readonly tokens: number;
    /** The id that stands for one feature of a picture. */
    readonly tokenId: number;
    readonly settings: PictureSettings;
  } | null;
}

/** @throws those of `resolveModel` and `assembleAny` */
export async function viewModel(
  source: string,
  { mode, onDownload }: { mode?: FitMode | undefined; onDownload?: (event: HubEvent) => void } = {},
): Promise<ModelView> {
  const resolve = (name: string): Promise<string> => resolveModel(name, { onProgress: onDownload });
  const folder = await resolve(source);
  const tokenizer = await tokenizerFolder([folder, await modelBeneath(folder)], resolve);
  const assembly = await assembleAny(folder, { resolve });
  if (assembly.kind === 'text') return { tokenizer, image: null };
  const model = new Llava(assembly.config);
  const { tokens, tokenId, size } = model.input.image!;
  model.dispose();
  return {
    tokenizer,
    image: { tokens, tokenId, settings: await readPictureSettings(assembly, { size, mode }) },
  };
}
