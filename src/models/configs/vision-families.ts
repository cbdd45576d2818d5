/**
 * The families of vision towers, a row for each: how they differ in what they compute, which is otherwise one tower
 * (vision-tower.ts), and how transformers calls and completes them.
 */

/** The towers that there are, by the `model_type` of the whole model; the tower's own adds `_vision_model`. */
export type VisionFamily = 'clip' | 'siglip';

export interface VisionRow {
  /** What people call it. */
  readonly title: string;
  /** Whether a class token stands before the patches. */
  readonly classToken: boolean;
  /** Whether the first block sees normalised embeddings. */
  readonly preNorm: boolean;
  readonly patchBias: boolean;
  /** Of missing fields. */
  readonly defaults: {
    readonly patch_size: number;
    readonly hidden_act: 'quick_gelu' | 'gelu_pytorch_tanh';
    readonly layer_norm_eps: number;
  };
  /** Whether there may be a head that pools the patches, as `vision_use_head` says. */
  readonly canPool: boolean;
  /** transformers' class of the tower alone. */
  readonly architecture: string;
}

export const VISION_FAMILIES: Readonly<Record<VisionFamily, VisionRow>> = {
  clip: {
    title: 'CLIP',
    classToken: true,
    preNorm: true,
    patchBias: false,
    defaults: { patch_size: 32, hidden_act: 'quick_gelu', layer_norm_eps: 1e-5 },
    canPool: false,
    architecture: 'CLIPVisionModel',
  },
  siglip: {
    title: 'SigLIP',
    classToken: false,
    preNorm: false,
    patchBias: true,
    defaults: { patch_size: 16, hidden_act: 'gelu_pytorch_tanh', layer_norm_eps: 1e-6 },
    canPool: true,
    architecture: 'SiglipVisionModel',
  },
};

/** The family of a `model_type`, that of a whole model or of its tower alone; undefined where Patina computes no such tower. */
export function visionFamilyOf(type: unknown): VisionFamily | undefined {
  const families = Object.keys(VISION_FAMILIES) as VisionFamily[];
  return families.find((family) => type === family || type === towerType(family));
}

/** transformers' `model_type` of the tower alone. */
export function towerType(family: VisionFamily): string {
  return `${family}_vision_model`;
}
