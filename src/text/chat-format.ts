/** What every way to write a conversation as ids offers: a chat template as well as XTuner's formats. */
import type { Message } from './message.js';
import type { EncodeTextOptions, Encoded } from './span-encoder.js';
import type { Tokenizer } from './tokenizer.js';

/** Ids and labels of a conversation: -200 for each image, its number in `images`, -100 for what is not learned. */
export type Encoding = Readonly<Encoded>;

export interface ChatFormat {
  readonly name: string;
  readonly tokenizer: Tokenizer;
  /** The token that ends an answer, on which generation stops. */
  readonly endOfTurn: number | undefined;
  /** Special tokens that the format is known to write and the tokenizer has not: they become text. */
  readonly missingTokens: readonly string[];
  /** A whole conversation, its answers learned. */
  training(messages: readonly Message[], options?: EncodeTextOptions): Encoding;
  /** A conversation up to where the assistant begins to write. */
  prompt(messages: readonly Message[], options?: EncodeTextOptions): Encoding;
}
