/** What is chosen for the case that no file says it, held against a model whose files do. */
import type { LlavaConfig } from '../configs/llava-config.js';

/** Choices about a LLaVA, as recipes name them. */
export interface LlavaChoices {
  /** Hidden state of the tower; negative ones count from the last, -1, down. */
  readonly featureLayer?: number | undefined;
  readonly featureSelect?: 'default' | 'full' | undefined;
  /** Layers of the projector. */
  readonly projectorDepth?: number | undefined;
}

/** A choice that a model does not follow. */
export interface UnusedChoice {
  readonly name: keyof LlavaChoices;
  readonly given: number | string;
  /** What the model has instead. */
  readonly said: number | string;
}

/** The choices that differ from what a configuration says, and so would be passed over. */
export function unusedChoices(
  { featureLayer: layer, vision, projector }: LlavaConfig,
  { featureLayer = layer, featureSelect, projectorDepth }: LlavaChoices,
): UnusedChoice[] {
  const fromEnd = (each: number): number => (each < 0 ? each : each - vision.numHiddenLayers - 1);
  const unused: UnusedChoice[] = [];
  if (fromEnd(featureLayer) !== fromEnd(layer)) {
    unused.push({ name: 'featureLayer', given: featureLayer, said: fromEnd(layer) });
  }
  for (const [name, given, said] of [
    ['featureSelect', featureSelect, projector.select],
    ['projectorDepth', projectorDepth, projector.depth],
  ] as const) {
    if (given !== undefined && given !== said) unused.push({ name, given, said });
  }
  return unused;
}
