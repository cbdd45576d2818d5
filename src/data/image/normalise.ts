/**
 * CLIP's normalisation of bytes, `(b / 255 - mean) / std`, rounded at each step as transformers rounds it.
 */

/** Per channel, from the processor configuration of every CLIP model (Radford et al. 2021). */
export const CLIP_MEAN: Rgb = [0.48145466, 0.4578275, 0.40821073];
export const CLIP_STD: Rgb = [0.26862954, 0.26130258, 0.27577711];

/** The colour that LLaVA and XTuner pad with: `trunc(mean x 255)`. */
export const CLIP_BACKGROUND: Rgb = meanColour(CLIP_MEAN);

/** One value for red, green and blue each. */
export type Rgb = readonly [red: number, green: number, blue: number];

/** `trunc(mean x 255)`. */
export function meanColour([red, green, blue]: Rgb): Rgb {
  return [Math.trunc(red * 255), Math.trunc(green * 255), Math.trunc(blue * 255)];
}

/**
 * `pixel_values` of every channel c and byte b, at index `256 c + b`.
 *
 * A gather from this table gives the reference's values to the bit on any device, which a multiplication in float32 on
 * the device does not: the byte is scaled in double precision and rounded to float32 before mean and std, rounded
 * themselves, are applied.
 */
export function normaliseTable(
  mean: Rgb = CLIP_MEAN,
  std: Rgb = CLIP_STD,
  rescale = 1 / 255,
): Float32Array {
  const table = new Float32Array(3 * 256);
  for (let c = 0; c < 3; c++) {
    for (let b = 0; b < 256; b++) {
      const centred = Math.fround(Math.fround(b * rescale) - Math.fround(mean[c]!));
      table[256 * c + b] = centred / Math.fround(std[c]!);
    }
  }
  return table;
}
