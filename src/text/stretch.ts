/** A place from which on text is learned, or is not. */
export interface Turn {
  readonly at: number;
  readonly supervised: boolean;
}

/** Text between two images, put together from spans: where its markup lies, and where learning turns on and off. */
export class Stretch {
  text = '';
  /** Ranges of neighbouring markup, in order. */
  readonly markup: [from: number, to: number][] = [];
  /** Where supervision changes, from the first span on. */
  readonly #turns: Turn[] = [];

  add(text: string, isMarkup: boolean, supervised: boolean): void {
    if (text === '') return;
    const from = this.text.length;
    this.text += text;
    const last = this.markup.at(-1);
    if (isMarkup && last?.[1] === from) last[1] = this.text.length;
    else if (isMarkup) this.markup.push([from, this.text.length]);
    if (this.#turns.at(-1)?.supervised !== supervised) this.#turns.push({ at: from, supervised });
  }

  supervisedAt(position: number): boolean {
    let found = false;
    for (const { at, supervised } of this.#turns) {
      if (at > position) break;
      found = supervised;
    }
    return found;
  }

  /** Where supervision changes strictly within a range. */
  turnsWithin(from: number, to: number): number[] {
    return this.#turns.map(({ at }) => at).filter((at) => at > from && at < to);
  }
}
