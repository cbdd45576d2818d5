/** Updates that a loss scale leaves out: while it is found by trying they are ordinary, and later they are to be few. */

/** The latest updates that are looked at, once the scale has been found: once some update was applied. */
const LATEST = 30;
/** Share of them from which on a run loses what it was to learn. A scale that doubles after 4 updates loses a fifth. */
const MANY = 0.3;

export class Skips {
  private readonly latest: boolean[] = [];

  /** Takes in whether an update was left out. @returns whether too many were of late */
  add(skipped: boolean): boolean {
    if (this.latest.length === 0 && skipped) return false;
    this.latest.push(skipped);
    if (this.latest.length > LATEST) this.latest.shift();
    return this.latest.length === LATEST && this.count > MANY * LATEST;
  }

  /** How many of the latest were left out. */
  get count(): number {
    return this.latest.filter((each) => each).length;
  }

  get of(): number {
    return this.latest.length;
  }
}
