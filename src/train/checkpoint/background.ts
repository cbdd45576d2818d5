/** Work that goes on beside the program, one piece after another; what comes of it is taken where the program looks for it. */

export class Background<T> {
  /** Pieces that were begun. */
  begun = 0;
  /** Of these, those that have come to an end, good or bad. */
  ended = 0;
  private work: Promise<() => T> | null = null;

  /** Begins a piece; the one before has been taken. */
  begin(run: () => Promise<T>): void {
    this.begun++;
    this.work = run()
      .then(
        (value) => () => value,
        (error: unknown) => () => {
          throw error;
        },
      )
      .finally(() => this.ended++);
  }

  /** Waits for the end of what was begun, and gives what came of it, or throws; `undefined` if that has been taken already. */
  async take(): Promise<T | undefined> {
    const { work } = this;
    this.work = null;
    return (await work)?.();
  }

  /** Waits for the end of what was begun, whatever came of it. */
  async settle(): Promise<void> {
    await this.work;
  }
}
