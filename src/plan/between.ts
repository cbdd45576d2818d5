/** What a run does between updates, of a recipe alone or of its data: how long what it validates on is, and what probes ask. */

import type { Recipe } from '../config/index.js';
import type { BetweenUpdates, ProbeShape, RecordShape } from '../train/index.js';
import type { ModelConfig } from './shape-model.js';
import { pictureTokens } from './shape-pictures.js';

/** Tokens of a chat format around a system text and one question, at most. */
const FORMAT_TOKENS = 64;

export interface BetweenOptions {
  readonly model: ModelConfig;
  /** The heaviest micro-batch of the training data. */
  readonly batch: readonly RecordShape[];
  /** Of the validation data. @default as heavy as those of the training data */
  readonly validation?: readonly RecordShape[] | undefined;
  /** As a tokenizer counts them. @default a token for each byte */
  readonly probes?: readonly ProbeShape[] | undefined;
}

export function betweenOf(
  recipe: Recipe,
  { model, batch, validation = batch, probes = probesOf(recipe, model) }: BetweenOptions,
): BetweenUpdates {
  return {
    validation: recipe.validation === undefined ? [] : validation,
    probes,
    isBeneath: beneathOf(recipe),
  };
}

/** A model that is put together from parts has a projector of its own. */
function beneathOf({ model }: Recipe): (name: string) => boolean {
  const { from, llm, vision, projector } = model;
  if (from === undefined && llm === undefined) return () => false;
  const isNew = vision !== undefined && projector === undefined;
  return (name) => !(isNew && /(?:^|\.)multi_modal_projector\./.test(name));
}

/** No text has more tokens than bytes. */
function probesOf({ probes, text }: Recipe, { kind, config }: ModelConfig): ProbeShape[] {
  const decoder = kind === 'text' ? config : config.text;
  const features = (pictures: number): number =>
    kind === 'text' ? 0 : pictureTokens(config, Infinity, pictures);
  const { maxNewTokens } = probes;
  const room = Math.max(1, decoder.maxPositionEmbeddings - maxNewTokens);
  return probes.questions.map(({ text: question, images }) => {
    const words = Buffer.byteLength(question) + Buffer.byteLength(text.system ?? '');
    const tokens = Math.min(room, words + FORMAT_TOKENS + images.length * features(images.length));
    return { tokens, images: images.length, newTokens: maxNewTokens };
  });
}
