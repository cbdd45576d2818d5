/** How a model sees records and pictures, from its configuration and the heads of its files: no weight is read. */
import { type HubEvent, resolveModel } from '../base/hub/resolve.js';
import type { FitMode } from '../data/image/fit.js';
import { pictureFacts, type PictureSettings, readPictureSettings } from '../generate/picture.js';
import { firstWith } from '../generate/tokenizer-folder.js';
import {
  assembleAny,
  type AssembleOptions,
  Llava,
  type Provenance,
  textFolders,
} from '../models/index.js';

export interface ModelView {
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  /** What a checkpoint was trained with. */
  readonly provenance: Provenance | undefined;
  /** Most tokens that it was made for. */
  readonly context: number;
  /** `null` for a decoder alone. */
  readonly image: {
    readonly tokens: number;
    /** The id that stands for one feature of a picture. */
    readonly tokenId: number;
    readonly settings: PictureSettings;
  } | null;
}

export interface ViewOptions extends Pick<AssembleOptions, 'changedBase' | 'onNotice'> {
  mode?: FitMode | undefined;
  onDownload?: (event: HubEvent) => void;
}

/** @throws those of `resolveModel` and `assembleAny` */
export async function viewModel(
  source: string,
  { mode, onDownload, ...options }: ViewOptions = {},
): Promise<ModelView> {
  const resolve = (name: string): Promise<string> => resolveModel(name, { onDownload });
  const assembly = await assembleAny(await resolve(source), { resolve, ...options });
  const { provenance } = assembly;
  const tokenizer = await firstWith('tokenizer.json', textFolders(assembly.places));
  if (assembly.kind === 'text') {
    const context = assembly.config.maxPositionEmbeddings;
    return { tokenizer, provenance, context, image: null };
  }
  const model = new Llava(assembly.config);
  const { tokens, tokenId } = model.input.image!;
  model.dispose();
  const settings = await readPictureSettings(assembly, { ...pictureFacts(model), mode });
  const context = assembly.config.text.maxPositionEmbeddings;
  return { tokenizer, provenance, context, image: { tokens, tokenId, settings } };
}
