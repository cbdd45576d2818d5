/**
 * How pictures become squares in training where the recipe does not say (`image.mode`): padded over CLIP, as LLaVA and XTuner fine-tune,
 * whatever CLIP's own file says, which is how CLIP was trained, and whatever the first stage did, which crops in their recipes; else, as over
 * SigLIP, as a checkpoint that it starts from was trained, or as the model's own image processor does it. Tiles are cut as the model says, whatever the recipe does.
 */

import type { ChooseMode, PictureSettings } from '../../generate/index.js';
import { type LanguageModel, Llava } from '../../models/index.js';

export const trainingMode: ChooseMode = (own, { tower, trained }) =>
  tower.family === 'clip' ? 'pad' : (trained ?? own);

const SQUARED = { pad: 'padded', crop: 'cropped', squeeze: 'squeezed' } as const;

type Squared = Pick<PictureSettings, 'size' | 'mode' | 'own' | 'tiles'> | null;

/** What is told of it before the first update. */
export function describePictures(pictures: Squared): string[] {
  if (pictures === null || pictures.tiles !== undefined) return [];
  const { size, mode, own } = pictures;
  const others = own === mode ? '' : `; the model's image processor has them ${SQUARED[own]}`;
  return [`pictures are ${SQUARED[mode]} to ${size} x ${size} (image.mode: ${mode})${others}`];
}

export interface PictureWarning {
  readonly code: 'pictures-not-squeezed';
  readonly message: string;
  readonly fix: string;
}

/** CLIP's are told of by none: cropped ones taught the tower, padded ones every LLaVA upon it. */
export function pictureWarnings(model: LanguageModel, pictures: Squared): PictureWarning[] {
  if (!(model instanceof Llava) || model.config.vision.family === 'clip') return [];
  if (pictures === null || pictures.tiles !== undefined) return [];
  const { mode, own } = pictures;
  if (own !== 'squeeze' || mode === own) return [];
  const message = `pictures are ${SQUARED[mode]} to squares, and the model's image processor has them squeezed`;
  const fix = 'leave out image.mode, unless this model was trained so';
  return [{ code: 'pictures-not-squeezed', message, fix }];
}
