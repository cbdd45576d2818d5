/** Pictures made into squares otherwise than those that a vision tower was trained on: known before the first update. */

import type { Recipe } from '../../config/index.js';
import { type LanguageModel, Llava } from '../../models/index.js';

export interface PictureWarning {
  readonly code: 'pictures-not-squeezed';
  readonly message: string;
}

/**
 * CLIP's are told of by none: cropped ones taught the tower, padded ones every LLaVA upon it. Tiles are cut as the model says, whatever
 * the recipe does.
 */
export function pictureWarnings(
  model: LanguageModel,
  { image: { mode } }: Pick<Recipe, 'image'>,
): PictureWarning[] {
  if (!(model instanceof Llava) || model.config.vision.family === 'clip') return [];
  if (mode === 'squeeze' || model.config.tiles !== null) return [];
  const how = mode === 'pad' ? 'padded' : 'cropped';
  const message = `pictures are ${how} to squares, and SigLIP was trained on squeezed ones: set image.mode=squeeze, unless this model was trained so`;
  return [{ code: 'pictures-not-squeezed', message }];
}
