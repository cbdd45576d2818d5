/** What a model continues, and the checks that need no tensor. */
import { DataError } from '../base/errors.js';
import type { ImagePixels, LanguageModel } from '../models/index.js';

/** One conversation, tokenised, up to where the answer begins. */
export interface Prompt {
  /** Token ids; each picture stands as as many image tokens as it has features. */
  readonly inputIds: ArrayLike<number>;
  /** In the order of their places. @default none */
  readonly images?: readonly ImagePixels[];
}

/** Positions that a model attends over: what it was made for, and its window if it has one. */
export function contextLength(model: LanguageModel): number {
  const { maxPositionEmbeddings, slidingWindow } = model.decoder.config;
  return Math.min(maxPositionEmbeddings, slidingWindow ?? Infinity);
}

/** @throws DataError `E_CONTEXT` for a prompt that leaves no room for a token */
export function checkContext(prompts: readonly Prompt[], context: number): void {
  prompts.forEach(({ inputIds }, i) => {
    if (inputIds.length <= context) return;
    const which = prompts.length === 1 ? 'The prompt' : `Prompt ${i}`;
    throw new DataError(
      `${which} has ${inputIds.length} tokens, and the model attends over ${context}.`,
      { code: 'E_CONTEXT', hint: 'Shorten the conversation, or show fewer pictures.' },
    );
  });
}
