/**
 * A chat template (Jinja) as a source of spans: what is the template's own and what is a message's, where
 * images stand, what is learned.
 *
 * Contents do not pass through the template. It is rendered with a mark in the place of each content, and the
 * contents are put in afterwards, so that no text can pass for markup; the marks of blanks around a content are
 * blanks themselves, so that a template that strips strips them. The result depends on the conversation's outline
 * alone (roles, which contents are empty or have blanks around them) and is kept for the next of that outline.
 * Each conversation is then rendered once with its contents and compared: a template that looks into contents
 * (cuts out reasoning, say) is found out, and its conversation taken as it is rendered.
 */
import { DataError } from '../base/errors.js';
import { compileTemplate, type JinjaTemplate } from './jinja.js';
import type { Message, Part } from './message.js';
import {
  coreMark,
  cutAtImages,
  cutAtSlots,
  looksMarked,
  markSlot,
  pieceText,
  slotOf,
  slotShape,
  slotText,
  type Piece,
  type Slot,
} from './outline.js';
import { pythonStrip } from './python-strip.js';
import {
  findSupervision,
  superviseTurns,
  type RenderTurns,
  type Supervised,
  type Supervision,
} from './supervision.js';
import type { Span, SpecialTokens } from './span-encoder.js';
import type { Tokenizer } from './tokenizer.js';

export interface ChatTemplateOptions {
  /** Source of the template. */
  source: string;
  /** What to call it in errors. */
  name: string;
  tokenizer: Tokenizer;
  /** The date that the template sees. @default none */
  now?: Date | undefined;
}

/** A message as the template gets it: slots by their numbers, and places of images. */
interface Outlined {
  readonly role: string;
  readonly parts: readonly (number | 'image')[];
}

const KEPT_OUTLINES = 1_000;

export class ChatTemplate {
  readonly name: string;
  readonly #tokenizer: Tokenizer;
  readonly #jinja: JinjaTemplate;
  readonly #outlines = new Map<string, readonly Piece[]>();
  /** Whether contents are given as lists of parts, images among them, or as strings. */
  #takesParts: boolean | undefined;
  #supervision: Supervision | undefined;

  /** Throws E_TEMPLATE_SYNTAX. */
  constructor({ source, name, tokenizer, now }: ChatTemplateOptions) {
    this.name = name;
    this.#tokenizer = tokenizer;
    this.#jinja = compileTemplate(source, { name, now });
  }

  /**
   * The whole conversation; answers that come after a question are supervised.
   *
   * Throws E_TEMPLATE_SUPERVISION where the template does not tell what is learned, E_TEMPLATE_REFUSED and
   * E_TEMPLATE_FAILED where it does not render, E_TEMPLATE_CONTENT where it leaves out a text or an image, or
   * rewrites a text that spells a special token.
   */
  training(messages: readonly Message[], specialTokens: SpecialTokens = 'text'): Span[] {
    const question = messages.findIndex(({ role }) => role === 'user');
    const answers = messages.flatMap(({ role }, i) =>
      role === 'assistant' && question >= 0 && i > question ? [i] : [],
    );
    return this.#spans(messages, answers, specialTokens);
  }

  /** The conversation up to where the assistant answers; throws as `training` does. */
  prompt(messages: readonly Message[], specialTokens: SpecialTokens = 'text'): Span[] {
    return this.#spans(messages, undefined, specialTokens);
  }

  /** @param answers Messages to learn; undefined for a prompt. */
  #spans(
    messages: readonly Message[],
    answers: readonly number[] | undefined,
    specialTokens: SpecialTokens,
  ): Span[] {
    const slots: Slot[] = [];
    const outlined = messages.map((message, i) => this.#outline(message, i, slots));
    const pieces = this.#pieces(outlined, slots, answers);
    const real = outlined.map((message) => this.#given(message, (slot) => slotText(slots[slot]!)));
    const rendered = answers
      ? this.#render(real, { header: false })
      : this.#render(real, { header: true });
    if (pieces.map((piece) => pieceText(piece, slots)).join('') === rendered) {
      return this.#fill(pieces, slots, messages);
    }
    this.#checkRewritten(messages, specialTokens);
    return this.#withImages(cutAtImages(this.#supervise(real, answers)), messages);
  }

  /** Puts a message's texts into slots, and says what the template is given in their place. */
  #outline({ role, content }: Message, message: number, slots: Slot[]): Outlined {
    const take = (parts: readonly Part[]): number => slots.push(slotOf(parts, message)) - 1;
    if (!this.#partsWanted()) return { role, parts: [take(content)] };
    const withImage = content.some(({ type }) => type === 'image');
    return {
      role,
      // The template puts its own blanks around an image.
      parts: content.flatMap((part): (number | 'image')[] => {
        if (part.type === 'image') return ['image'];
        const text = withImage ? pythonStrip(part.text) : part.text;
        return withImage && text === '' ? [] : [take([{ type: 'text', text }])];
      }),
    };
  }

  #given({ role, parts }: Outlined, textOf: (slot: number) => string): object {
    if (!this.#partsWanted()) return { role, content: textOf(parts[0] as number) };
    return {
      role,
      content: parts.map((part) =>
        part === 'image' ? { type: 'image' } : { type: 'text', text: textOf(part) },
      ),
    };
  }

  /** A template takes parts if it writes something for the image and the text of a message of parts. */
  #partsWanted(): boolean {
    if (this.#takesParts === undefined) {
      const content = [{ type: 'image' }, { type: 'text', text: coreMark(0) }];
      try {
        const probe = this.#render([{ role: 'user', content }], { header: false });
        this.#takesParts =
          probe.includes(this.#tokenizer.imageToken) && probe.includes(coreMark(0));
      } catch {
        this.#takesParts = false;
      }
    }
    return this.#takesParts;
  }

  /** The rendering of an outline, from memory if it has been seen. */
  #pieces(
    outlined: readonly Outlined[],
    slots: readonly Slot[],
    answers: readonly number[] | undefined,
  ): readonly Piece[] {
    const key = JSON.stringify([outlined, slots.map(slotShape), answers !== undefined]);
    const known = this.#outlines.get(key);
    if (known) return known;

    const marked = outlined.map((message) =>
      this.#given(message, (slot) => markSlot(slots[slot]!, slot)),
    );
    const pieces = cutAtSlots(this.#supervise(marked, answers));
    if (this.#outlines.size >= KEPT_OUTLINES) this.#outlines.clear();
    this.#outlines.set(key, pieces);
    return pieces;
  }

  #supervise(given: readonly object[], answers: readonly number[] | undefined): Supervised {
    if (!answers) return { text: this.#render(given, { header: true }), ranges: [] };
    this.#supervision ??= this.#findSupervision();
    return superviseTurns({
      render: this.#turns(given),
      count: given.length,
      answers,
      supervision: this.#supervision,
      hasGenerationTags: this.#jinja.hasGenerationTags,
      name: this.name,
    });
  }

  #findSupervision(): Supervision {
    const contents = [coreMark(0), coreMark(1), coreMark(2), coreMark(3)] as const;
    const given = contents.map((text, i) => {
      const role = i % 2 === 0 ? 'user' : 'assistant';
      return this.#given({ role, parts: [i] }, () => text);
    });
    return findSupervision({
      render: this.#turns(given),
      contents,
      atoms: (text) => this.#tokenizer.atoms(text),
      hasGenerationTags: this.#jinja.hasGenerationTags,
      name: this.name,
    });
  }

  #turns(given: readonly object[]): RenderTurns {
    const known = new Map<string, string>();
    return (count, { header = false, generation = false } = {}) => {
      const key = `${count} ${header} ${generation}`;
      const text = known.get(key) ?? this.#render(given.slice(0, count), { header, generation });
      known.set(key, text);
      return text;
    };
  }

  #render(
    messages: readonly object[],
    { header, generation = false }: { header: boolean; generation?: boolean },
  ): string {
    const variables = {
      ...this.#tokenizer.namedTokens,
      messages,
      add_generation_prompt: header,
      tools: null,
      documents: null,
    };
    return this.#jinja.render(variables, { generation });
  }

  /** Spans of a rendering whose contents stand where their marks stood. */
  #fill(pieces: readonly Piece[], slots: readonly Slot[], messages: readonly Message[]): Span[] {
    const seen = new Set(pieces.flatMap((piece) => (piece.kind === 'core' ? [piece.slot] : [])));
    slots.forEach(({ core, message }, slot) => {
      if (core.length > 0 && !seen.has(slot)) throw this.#contentError(message, 'leaves out');
    });
    const spans = pieces.flatMap((piece): Span[] => {
      const { supervised } = piece;
      if (piece.kind === 'markup') return [{ kind: 'markup', text: piece.text, supervised }];
      const slot = slots[piece.slot]!;
      if (piece.kind !== 'core') return [{ kind: 'content', text: slot[piece.kind], supervised }];
      return slot.core.map((part): Span => {
        if (part.type === 'image') return { kind: 'image', image: part.image };
        return { kind: 'content', text: part.text, supervised };
      });
    });
    return this.#withImages(spans, messages);
  }

  /** Puts images where the template wrote its own words for them, and checks that none is missing. */
  #withImages(spans: readonly Span[], messages: readonly Message[]): Span[] {
    const images = messages.flatMap(({ content }) =>
      content.flatMap((part) => (part.type === 'image' ? [part.image] : [])),
    );
    const waiting = this.#partsWanted() ? [...images] : [];
    const placed = spans.flatMap((span): Span[] => {
      if (span.kind !== 'markup') return [span];
      return span.text.split(this.#tokenizer.imageToken).flatMap((text, i): Span[] => {
        const words: Span = { ...span, text };
        return i === 0 ? [words] : [{ kind: 'image', image: waiting.shift() ?? -1 }, words];
      });
    });
    const found = placed.flatMap((span) => (span.kind === 'image' ? [span.image] : []));
    if (found.length !== images.length || found.includes(-1)) {
      throw new DataError(
        `Chat template ${this.name} writes ${found.length} images where the conversation has ${images.length}.`,
        {
          code: 'E_TEMPLATE_CONTENT',
          hint: 'Choose a template that writes each image once, in the order of the message.',
        },
      );
    }
    return placed;
  }

  /** A rewritten text cannot be told from the template's words: it must not matter. */
  #checkRewritten(messages: readonly Message[], specialTokens: SpecialTokens): void {
    messages.forEach(({ content }, message) => {
      for (const part of content) {
        if (part.type === 'image') continue;
        const spells = specialTokens === 'text' && this.#tokenizer.spellsToken(part.text);
        if (spells || part.text.includes(this.#tokenizer.imageToken) || looksMarked(part.text)) {
          throw this.#contentError(message, 'rewrites, though it spells a special token,');
        }
      }
    });
  }

  #contentError(message: number, does: string): DataError {
    return new DataError(`Chat template ${this.name} ${does} the text of message ${message + 1}.`, {
      code: 'E_TEMPLATE_CONTENT',
      hint: 'Choose another template, or take that text out of the message.',
    });
  }
}
