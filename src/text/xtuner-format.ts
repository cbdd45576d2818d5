/**
 * XTuner 0.1.23's prompt formats `llama3_chat`, `qwen_chat` and `vicuna` (xtuner/utils/templates.py), encoded as its
 * `encode_fn` does: the text before an image, the text after it, the answer and the separator are encoded apart,
 * so that no token goes over their borders; the answer and its end token are learned.
 */
import { DataError, UsageError } from '../base/errors.js';
import { IGNORED_LABEL } from '../models/sample.js';
import type { ChatFormat, Encoding } from './chat-format.js';
import { joinTexts, type Message, type Part } from './message.js';
import { pythonStrip } from './python-strip.js';
import type { EncodeTextOptions, Encoded, Span } from './span-encoder.js';
import type { Tokenizer } from './tokenizer.js';
import { pairTurns, type Turn } from './turns.js';

/** Text before and after what is put in. */
export type Frame = readonly [before: string, after: string];

export interface PromptFormat {
  readonly system: Frame;
  readonly instruction: Frame;
  /** Ends an answer in place of the tokenizer's end token, and keeps the next turn from a first token. */
  readonly suffix?: string;
  /** Follows the end token, not learned. */
  readonly separator?: string;
  /** Special tokens that the format writes. */
  readonly tokens: readonly string[];
}

export const FORMATS = {
  llama3_chat: {
    system: ['<|start_header_id|>system<|end_header_id|>\n\n', '<|eot_id|>'],
    instruction: [
      '<|start_header_id|>user<|end_header_id|>\n\n',
      '<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
    ],
    suffix: '<|eot_id|>',
    tokens: ['<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'],
  },
  qwen_chat: {
    system: ['<|im_start|>system\n', '<|im_end|>\n'],
    instruction: ['<|im_start|>user\n', '<|im_end|>\n<|im_start|>assistant\n'],
    suffix: '<|im_end|>',
    separator: '\n',
    tokens: ['<|im_start|>', '<|im_end|>'],
  },
  vicuna: {
    system: [
      'A chat between a curious user and an artificial intelligence assistant. ' +
        "The assistant gives helpful, detailed, and polite answers to the user's questions. ",
      '\n ',
    ],
    instruction: ['USER: ', ' ASSISTANT:'],
    separator: '\n',
    tokens: [],
  },
} satisfies Record<string, PromptFormat>;

export type XtunerFormatName = keyof typeof FORMATS;

export function isXtunerFormat(name: string): name is XtunerFormatName {
  return Object.hasOwn(FORMATS, name);
}

export const XTUNER_FORMATS = Object.keys(FORMATS) as readonly XtunerFormatName[];

export class XtunerFormat implements ChatFormat {
  readonly endOfTurn: number | undefined;
  readonly missingTokens: readonly string[];
  readonly #format: PromptFormat;

  /** Throws E_TEMPLATE_TOKENS where the format needs an end token that the tokenizer has not. */
  constructor(
    readonly name: XtunerFormatName,
    readonly tokenizer: Tokenizer,
  ) {
    this.#format = FORMATS[name];
    this.missingTokens = this.#format.tokens.filter((token) => tokenizer.idOf(token) === undefined);
    this.endOfTurn = tokenizer.idOf(this.#format.suffix) ?? tokenizer.eosId;
    if (this.#format.suffix === undefined && this.endOfTurn === undefined) {
      throw new DataError(
        `The format ${name} ends an answer by the tokenizer's eos_token; it has none.`,
        {
          code: 'E_TEMPLATE_TOKENS',
          hint: 'Name `eos_token` in tokenizer_config.json, or choose another template.',
        },
      );
    }
  }

  training(messages: readonly Message[], options: EncodeTextOptions = {}): Encoding {
    const { system, turns } = pairTurns(messages);
    return this.#encode(system, turns, options);
  }

  prompt(messages: readonly Message[], options: EncodeTextOptions = {}): Encoding {
    if (messages.at(-1)?.role !== 'user') {
      throw new UsageError('A prompt has to end with a message of the user.', {
        code: 'E_PROMPT',
        hint: 'Add a question.',
      });
    }
    const { system, turns } = pairTurns([...messages, { role: 'assistant', content: [] }]);
    return this.#encode(system, turns, { ...options, open: true });
  }

  /** @param options With `open` the last turn ends where the answer begins. */
  #encode(
    system: readonly Part[] | undefined,
    turns: readonly Turn[],
    { open = false, ...options }: EncodeTextOptions & { open?: boolean },
  ): Encoding {
    const { instruction, suffix, separator } = this.#format;
    const out: Encoded = { ids: [], labels: [], images: [] };
    const append = ({ ids, labels, images }: Encoded): void => {
      // One by one, since a spread of a long record would not fit on the stack.
      for (const id of ids) out.ids.push(id);
      for (const label of labels) out.labels.push(label);
      for (const image of images) out.images.push(image);
    };
    const unlearned = (id: number | undefined): void => {
      if (id !== undefined) append({ ids: [id], labels: [IGNORED_LABEL], images: [] });
    };
    turns.forEach(({ question, answer }, i) => {
      if (i === 0 || suffix === undefined) unlearned(this.tokenizer.bosId);
      const opening = i === 0 && system ? framed(this.#format.system, system) : [];
      const input = [...opening, ...framed(instruction, question.flatMap(imageFirst))];
      for (const piece of atImages(input)) append(this.tokenizer.encodeSpans(piece, options));
      if (open && i === turns.length - 1) return;

      const output: Span[] = answer.flatMap((part) =>
        part.type === 'text' ? [{ kind: 'content', text: part.text, supervised: true }] : [],
      );
      if (suffix !== undefined) output.push({ kind: 'markup', text: suffix, supervised: true });
      append(this.tokenizer.encodeSpans(output, options));
      if (suffix === undefined) {
        const end = this.endOfTurn!;
        append({ ids: [end], labels: [end], images: [] });
      }
      if (separator !== undefined) {
        append(this.tokenizer.encodeSpans([{ kind: 'markup', text: separator }]));
      }
    });
    return out;
  }
}

/** A single image moves to the front, a line end between it and the stripped text; several stay where they are. */
function imageFirst(message: Message): Part[] {
  const parts = joinTexts(message.content);
  const [image, ...more] = parts.filter((part) => part.type === 'image');
  if (!image || more.length > 0) return parts;
  const text = pythonStrip(parts.map((part) => (part.type === 'text' ? part.text : '')).join(''));
  return text === '' ? [image] : [image, { type: 'text', text: `\n${text}` }];
}

function framed([before, after]: Frame, parts: readonly Part[]): Span[] {
  return [
    { kind: 'markup', text: before },
    ...parts.map((part): Span => {
      if (part.type === 'image') return { kind: 'image', image: part.image };
      return { kind: 'content', text: part.text };
    }),
    { kind: 'markup', text: after },
  ];
}

/** Stretches between images, and the images, each by itself. */
function atImages(spans: readonly Span[]): Span[][] {
  const pieces: Span[][] = [[]];
  for (const span of spans) {
    if (span.kind === 'image') pieces.push([span], []);
    else pieces.at(-1)!.push(span);
  }
  return pieces;
}
