/**
 * How conversations become ids: a chat template (Jinja) or one of XTuner's formats, chosen by name.
 */
import { DataError, UsageError } from '../base/errors.js';
import { ChatTemplate, type ChatTemplateOptions } from './chat-template.js';
import type { ChatFormat, Encoding } from './chat-format.js';
import { IGNORED_LABEL } from '../models/sample.js';
import { textMessage, type Message } from './message.js';
import type { EncodeTextOptions, Span } from './span-encoder.js';
import type { Tokenizer } from './tokenizer.js';
import { isXtunerFormat, XtunerFormat, XTUNER_FORMATS } from './xtuner-format.js';

export interface FormatOptions {
  /** A name of `XTUNER_FORMATS`, or a Jinja template. @default the tokenizer's own chat template */
  template?: string | { readonly source: string; readonly name: string } | undefined;
  /** The date that a Jinja template sees. @default none, so that a record gives the same ids on any day */
  now?: Date | undefined;
  /**
   * Whether the model has a processor, as a LLaVA has. Then special tokens stand around a rendering that does not begin with
   * `bos_token`, as in transformers' `ProcessorMixin.apply_chat_template`; its `tokenizer.apply_chat_template` adds none.
   *
   * @default false
   */
  hasProcessor?: boolean | undefined;
}

/**
 * The format in which a tokenizer's model is to be spoken to.
 *
 * Throws E_TEMPLATE_UNKNOWN on a name that is no format, E_TEMPLATE_MISSING where the tokenizer has no template,
 * E_TEMPLATE_SYNTAX on a template that cannot be read, E_TEMPLATE_TOKENS where a token is missing.
 */
export function createFormat(
  tokenizer: Tokenizer,
  { template, now, hasProcessor }: FormatOptions = {},
): ChatFormat {
  if (typeof template === 'string') {
    if (isXtunerFormat(template)) return new XtunerFormat(template, tokenizer);
    throw new UsageError(`There is no chat template called ${JSON.stringify(template)}.`, {
      code: 'E_TEMPLATE_UNKNOWN',
      hint: `Use ${XTUNER_FORMATS.join(', ')} or a .jinja file.`,
    });
  }
  if (template) return new JinjaFormat({ ...template, tokenizer, now, hasProcessor });
  if (tokenizer.chatTemplate === undefined) {
    throw new DataError('The tokenizer has no chat template.', {
      code: 'E_TEMPLATE_MISSING',
      hint: `Name one: ${XTUNER_FORMATS.join(', ')} or a .jinja file.`,
    });
  }
  return new JinjaFormat({
    source: tokenizer.chatTemplate,
    name: 'of the tokenizer',
    tokenizer,
    now,
    hasProcessor,
  });
}

export interface JinjaFormatOptions extends ChatTemplateOptions {
  /** As in `FormatOptions`. @default false */
  hasProcessor?: boolean | undefined;
}

/** A Jinja template: ids are those of the whole text, as Hugging Face encodes it. */
export class JinjaFormat implements ChatFormat {
  readonly name: string;
  readonly tokenizer: Tokenizer;
  readonly missingTokens = [];
  readonly #template: ChatTemplate;
  readonly #hasProcessor: boolean;
  #endOfTurn: number | undefined;

  constructor({ hasProcessor = false, ...options }: JinjaFormatOptions) {
    this.#hasProcessor = hasProcessor;
    this.name = options.name;
    this.tokenizer = options.tokenizer;
    this.#template = new ChatTemplate(options);
  }

  /** The first special token after an answer, else the tokenizer's end token. */
  get endOfTurn(): number | undefined {
    this.#endOfTurn ??= this.#findEndOfTurn() ?? this.tokenizer.eosId;
    return this.#endOfTurn;
  }

  training(messages: readonly Message[], options: EncodeTextOptions = {}): Encoding {
    return this.#encode(this.#template.training(messages, options.specialTokens), options);
  }

  prompt(messages: readonly Message[], options: EncodeTextOptions = {}): Encoding {
    return this.#encode(this.#template.prompt(messages, options.specialTokens), options);
  }

  #encode(spans: readonly Span[], options: EncodeTextOptions): Encoding {
    const encoding = this.tokenizer.encodeSpans(spans, options);
    if (!this.#hasProcessor || this.#beginsWithBos(spans)) return encoding;
    const { before, after } = this.tokenizer.specialFrame;
    const { ids, labels, images } = encoding;
    const unlearned = (frame: readonly number[]): number[] => frame.map(() => IGNORED_LABEL);
    return {
      ids: [...before, ...ids, ...after],
      labels: [...unlearned(before), ...labels, ...unlearned(after)],
      images,
    };
  }

  /** Whether the template's own words begin with the first token; a text that spells it is no such token. */
  #beginsWithBos(spans: readonly Span[]): boolean {
    const { bos_token: bos } = this.tokenizer.namedTokens;
    const first = spans.find((span) => span.kind === 'image' || span.text !== '');
    return bos !== undefined && first?.kind === 'markup' && first.text.startsWith(bos);
  }

  #findEndOfTurn(): number | undefined {
    try {
      const { labels } = this.training([textMessage('user', 'a'), textMessage('assistant', 'b')]);
      return labels.find((label) => this.tokenizer.isSpecial(label));
    } catch {
      return undefined;
    }
  }
}
