/** The best validation loss so far, and when to stop waiting for a better one. */

export interface EarlyStoppingState {
  readonly best: number | null;
  /** Validations since the best. */
  readonly since: number;
}

export class EarlyStopping {
  best: number | null = null;
  private since = 0;

  constructor(
    private readonly patience = Infinity,
    private readonly minimumImprovement = 0,
  ) {}

  /** @returns whether the loss is the lowest so far */
  add(loss: number): boolean {
    const { best } = this;
    const improved = Number.isFinite(loss) && (best === null || loss < best);
    const counts = improved && (best === null || loss < best - this.minimumImprovement);
    if (improved) this.best = loss;
    this.since = counts ? 0 : this.since + 1;
    return improved;
  }

  /** Whether there were as many validations without an improvement as the patience allows. */
  get exhausted(): boolean {
    return this.since >= this.patience;
  }

  state(): EarlyStoppingState {
    return { best: this.best, since: this.since };
  }

  restore({ best, since }: EarlyStoppingState): void {
    this.best = best;
    this.since = since;
  }
}
