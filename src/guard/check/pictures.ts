/** Pictures that show nothing: of one colour all over, or nearly so. */
import type { RgbImage } from '../../data/index.js';

/** Levels of a byte between which a colour counts as the same: what JPEG makes of one colour stays within. */
const SPREAD = 8;
/** Of so many pixels one may differ. */
const PIXELS_PER_STRAY = 2000;

/** Pixels that are looked at first. */
const SAMPLED = 10_000;

/** Whether all pixels but single ones have nearly the same colour. */
export function isConstant({ width, height, data }: RgbImage): boolean {
  const pixels = width * height;
  const step = Math.ceil(pixels / SAMPLED);
  // Enough for nearly every picture.
  if (step > 1 && strays(data, step) > SAMPLED / 100) return false;
  return strays(data, 1) <= Math.floor(pixels / PIXELS_PER_STRAY);
}

/** Of every `step`-th pixel those that are not within the densest levels of a channel, in the worst channel. */
function strays(data: Uint8Array, step: number): number {
  let worst = 0;
  for (let channel = 0; channel < 3; channel++) {
    const levels = new Uint32Array(256);
    let pixels = 0;
    for (let i = channel; i < data.length; i += 3 * step) {
      levels[data[i]!]!++;
      pixels++;
    }
    worst = Math.max(worst, pixels - densest(levels));
  }
  return worst;
}

/** Most pixels within a stretch of `SPREAD` levels. */
function densest(levels: Uint32Array): number {
  let within = 0;
  let most = 0;
  for (let level = 0; level < levels.length; level++) {
    within += levels[level]! - (level > SPREAD ? levels[level - SPREAD - 1]! : 0);
    most = Math.max(most, within);
  }
  return most;
}
