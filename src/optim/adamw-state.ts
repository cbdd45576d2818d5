/** Names of what a checkpoint holds of AdamW, and how many scales moments in 8 bits have. */

/** Values that share a scale where moments are in 8 bits. */
export const INT8_BLOCK = 256;

/** Scales of so many values. */
export function int8Blocks(values: number): number {
  return Math.ceil(values / INT8_BLOCK);
}

/** End of the name of a moment's scales. */
const SCALES = '.absmax';

/** The parameter that a tensor of the state belongs to. */
export function parameterOf(name: string): string {
  return name.replace(/\.(master|step|exp_avg(_sq)?(\.absmax)?)$/, '');
}

/** Whether it is the name of one of Adam's moments; in 8 bits, of its codes. */
export function isMoment(name: string): boolean {
  return /\.exp_avg(_sq)?$/.test(name);
}

/** Whether a moment is the first, which has signs. */
export function hasSigns(moment: string): boolean {
  return moment.endsWith('.exp_avg');
}

/** The scales of the codes of a moment, by name. */
export function scalesOf(moment: string): string {
  return `${moment}${SCALES}`;
}

/** Whether it is the name of scales. */
export function isScales(name: string): boolean {
  return name.endsWith(SCALES) && isMoment(name.slice(0, -SCALES.length));
}
