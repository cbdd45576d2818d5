/**
 * The layouts in which LLaVAs and their parts lie on disk: one table of names each, read in both directions.
 *
 * Patina's own names are those of transformers' `LlavaForConditionalGeneration` (`model.vision_tower.`,
 * `model.multi_modal_projector.linear_1.`, `model.language_model.`, `lm_head.`). A layout says by which prefix it replaces
 * each of them; a part without a prefix is not in it.
 */

/** The parts of a model in the order of the data (images, features, words), as recipes name them. */
export const MODEL_PARTS = ['vision', 'projector', 'decoder'] as const;

export type ModelPart = (typeof MODEL_PARTS)[number];

/** What layouts keep together under one prefix: the parts, and the decoder's matrix to the vocabulary apart. */
export const PART_NAMES = [...MODEL_PARTS, 'head'] as const;

export type PartName = (typeof PART_NAMES)[number];

/** The prefix of each part. */
export type Prefixes = Readonly<Partial<Record<PartName, string>>>;

/** Names inside a whole LLaVA; Patina's own. */
export const LLAVA_PREFIXES: Readonly<Record<PartName, string>> = {
  vision: 'model.vision_tower.',
  projector: 'model.multi_modal_projector.',
  decoder: 'model.language_model.',
  head: 'lm_head.',
};

/** The vector that LLaVA-NeXT adds to the projector, which is no part of any of its modules; Patina's own name. */
export const IMAGE_NEWLINE = 'model.image_newline';

/** Names inside a text model; Patina's own there. */
export const TEXT_PREFIXES: Prefixes & Readonly<Record<'decoder', string>> = {
  decoder: 'model.',
  head: 'lm_head.',
};

/** Those of a decoder alone, or of a whole LLaVA. */
export function ownPrefixes(isText: boolean): Prefixes & Readonly<Record<'decoder', string>> {
  return isText ? TEXT_PREFIXES : LLAVA_PREFIXES;
}

/** Tensors that are known and not needed: their stored names, and why they are ignored. */
export interface Surplus {
  readonly names: RegExp;
  readonly why: string;
}

/** Buffers that old versions stored although they follow from the configuration. */
const COMPUTED: readonly Surplus[] = [
  { names: /(^|\.)rotary_emb\.inv_freq$/, why: 'rotary frequencies follow from the configuration' },
  { names: /(^|\.)embeddings\.position_ids$/, why: 'positions are counted' },
];

/** What a whole `CLIPModel` or `SiglipModel` holds besides the vision tower. */
const REST_OF_CLIP: readonly Surplus[] = [
  { names: /^text_model\./, why: 'the tower for text plays no part in LLaVA' },
  {
    names: /^(visual_projection|text_projection)\.weight$|^logit_(scale|bias)$/,
    why: 'the comparison of image and text plays no part in LLaVA',
  },
];

export interface Layout {
  readonly name: string;
  /** What people call it. */
  readonly title: string;
  readonly prefixes: Prefixes;
  /** The projector as an `nn.Sequential` (`0.`, `2.`, ...) instead of `linear_1.`, `linear_2.`, ... @default false */
  readonly sequentialProjector?: boolean;
  /** What it calls {@link IMAGE_NEWLINE}. @default it has none */
  readonly newline?: string;
  readonly surplus: readonly Surplus[];
}

/** All layouts; of several that fit equally the first counts. */
export const LAYOUTS = {
  hf: {
    name: 'hf',
    title: 'Hugging Face LLaVA, as transformers 5.6 and later write it',
    prefixes: {
      vision: 'vision_tower.',
      projector: 'multi_modal_projector.',
      decoder: 'language_model.model.',
      head: 'language_model.lm_head.',
    },
    newline: 'image_newline',
    surplus: COMPUTED,
  },
  'hf-old': {
    name: 'hf-old',
    title: 'Hugging Face LLaVA, as transformers before 5.6 write it',
    prefixes: {
      vision: 'vision_tower.vision_model.',
      projector: 'multi_modal_projector.',
      decoder: 'language_model.model.',
      head: 'language_model.lm_head.',
    },
    newline: 'image_newline',
    surplus: COMPUTED,
  },
  'hf-2026': {
    name: 'hf-2026',
    title: 'Hugging Face LLaVA, named as in the memory of transformers 5.6 and later',
    prefixes: LLAVA_PREFIXES,
    newline: IMAGE_NEWLINE,
    surplus: COMPUTED,
  },
  'hf-2025': {
    name: 'hf-2025',
    title: 'Hugging Face LLaVA, named as in the memory of transformers 4.52 to 5.5',
    prefixes: { ...LLAVA_PREFIXES, vision: 'model.vision_tower.vision_model.' },
    newline: IMAGE_NEWLINE,
    surplus: COMPUTED,
  },
  llama: {
    name: 'llama',
    title: 'Decoder (Llama, Vicuna, Mistral, Qwen2, Qwen3)',
    prefixes: TEXT_PREFIXES,
    surplus: COMPUTED,
  },
  official: {
    name: 'official',
    title: "LLaVA of its authors' code",
    prefixes: {
      vision: 'model.vision_tower.vision_tower.vision_model.',
      projector: 'model.mm_projector.',
      decoder: 'model.',
      head: 'lm_head.',
    },
    sequentialProjector: true,
    surplus: COMPUTED,
  },
  clip: {
    name: 'clip',
    title: 'CLIP or SigLIP vision tower, alone or in the whole model',
    prefixes: { vision: 'vision_model.' },
    surplus: [...COMPUTED, ...REST_OF_CLIP],
  },
  'clip-2026': {
    name: 'clip-2026',
    title: 'CLIP or SigLIP vision tower, as transformers 5.6 and later write it',
    prefixes: { vision: '' },
    surplus: COMPUTED,
  },
  projector: {
    name: 'projector',
    title: 'Projector of XTuner',
    prefixes: { projector: 'model.' },
    sequentialProjector: true,
    surplus: [],
  },
  xtuner: {
    name: 'xtuner',
    title: 'State dict of XTuner',
    prefixes: {
      vision: 'visual_encoder.vision_model.',
      projector: 'projector.model.',
      decoder: 'llm.model.',
      head: 'llm.lm_head.',
    },
    sequentialProjector: true,
    surplus: COMPUTED,
  },
} as const satisfies Record<string, Layout>;

/** The name of a layout. */
export type LayoutName = keyof typeof LAYOUTS;
