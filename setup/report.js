/** What the set-up says while it works: lines on standard error, since standard output belongs to the command after it. */

export class Report {
  /** @param {{ quiet?: boolean }} [options] Quiet: warnings and errors only. */
  constructor({ quiet = false } = {}) {
    this.quiet = quiet;
  }

  /** @param {string} text */
  note(text) {
    if (!this.quiet) this.write(`setup: ${text}\n`);
  }

  /** @param {string} text */
  warn(text) {
    this.write(`warning: ${text}\n`);
  }

  /**
   * Says what begins, runs it, and says how long it took.
   *
   * @template T
   * @param {string} text
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  async step(text, work) {
    const start = performance.now();
    this.note(`${text} ...`);
    const result = await work();
    this.note(`  done in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return result;
  }

  /** Whether a person watches: other programs may show their own progress. */
  get watched() {
    return !this.quiet && process.stderr.isTTY === true;
  }

  /**
   * @protected
   * @param {string} text
   */
  write(text) {
    process.stderr.write(text);
  }
}
