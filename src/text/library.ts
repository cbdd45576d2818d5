/**
 * The typed door to @huggingface/tokenizers. Its declarations import without file endings, which ESM
 * does not resolve, so they come out as `any`: what Patina uses of it is declared here.
 */
import * as tokenizers from '@huggingface/tokenizers';

/** Normalizer, splitting and BPE model of one `tokenizer.json`. */
export interface LibraryTokenizer {
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer:
    | (((text: string) => string[]) & {
        /** The stages of a Sequence; those of type Split have the pattern that they were compiled to. */
        readonly tokenizers?: readonly { readonly pattern?: RegExp }[];
      })
    | null;
  readonly model: ((words: string[]) => string[]) & {
    readonly tokens_to_ids: ReadonlyMap<string, number>;
  };
}

const Constructor = tokenizers.Tokenizer as unknown as new (
  json: object,
  config: object,
) => LibraryTokenizer;

export function createLibraryTokenizer(json: object): LibraryTokenizer {
  return new Constructor(json, {});
}
