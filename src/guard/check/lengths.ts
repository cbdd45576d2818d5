/** How long records are: exact counts by length up to a limit, so that memory does not grow with the data. */
import { formatCount } from '../../base/format.js';

/** What the summary tells of lengths. */
export interface LengthFacts {
  readonly median: number;
  readonly p99: number;
  readonly longest: number;
  /** Bars of equal width from 0 to the longest. */
  readonly histogram: readonly { readonly upTo: number; readonly records: number }[];
}

const EXACT = 2 ** 17;
const BARS = 12;
const WIDTH = 40;

export class Lengths {
  readonly #counts = new Float64Array(EXACT + 1);
  #records = 0;
  #longest = 0;
  total = 0;

  add(length: number): void {
    if (length === 0) return; // it could not be read
    this.#counts[Math.min(length, EXACT)]!++;
    this.#records++;
    this.#longest = Math.max(this.#longest, length);
    this.total += length;
  }

  facts(): LengthFacts {
    const step = Math.max(1, niceStep(this.#longest / BARS));
    const bars = Math.max(1, Math.ceil(this.#longest / step));
    const histogram = Array.from({ length: bars }, (_, i) => ({
      upTo: (i + 1) * step,
      records: 0,
    }));
    for (let length = 1; length <= EXACT; length++) {
      const records = this.#counts[length]!;
      // Those beyond the limit are together.
      const bar = length === EXACT ? bars : Math.ceil(length / step);
      histogram[Math.min(bars, bar) - 1]!.records += records;
    }
    return { median: this.#share(0.5), p99: this.#share(0.99), longest: this.#longest, histogram };
  }

  /** The length that so large a share of the records does not exceed. */
  #share(share: number): number {
    let below = 0;
    for (let length = 1; length <= EXACT; length++) {
      below += this.#counts[length]!;
      if (below >= share * this.#records && below > 0) {
        return length === EXACT ? this.#longest : length;
      }
    }
    return 0;
  }
}

/** 1, 2 or 5 times a power of ten, at least `step`. */
function niceStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, step)));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= step) ?? 10);
}

/** Bars of blocks, a line each, from the shortest on. */
export function drawLengths({ histogram }: LengthFacts): string[] {
  const shortest = histogram.findIndex(({ records }) => records > 0);
  const bars = histogram.slice(Math.max(0, shortest));
  const most = Math.max(1, ...bars.map(({ records }) => records));
  const width = String(bars.at(-1)!.upTo).length;
  return bars.map(({ upTo, records }) => {
    const eighths = Math.ceil((8 * WIDTH * records) / most);
    const part = eighths % 8 === 0 ? '' : '▏▎▍▌▋▊▉'[(eighths % 8) - 1]!;
    const bar = '█'.repeat(Math.floor(eighths / 8)) + part;
    const count = records === 0 ? '' : ` ${formatCount(records)}`;
    return `${String(upTo).padStart(width)} ${bar}${count}`.trimEnd();
  });
}
