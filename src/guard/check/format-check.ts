/** A chat template against its tokenizer: whether its markers are tokens, and whether anything teaches the model to stop. */
import { DataError } from '../../base/errors.js';
import { formatWarnings, WARNINGS } from '../../data/index.js';
import { textMessage, type ChatFormat } from '../../text/index.js';
import { finding, type Finding } from './finding.js';
import { FORMAT_KINDS } from './kinds.js';

/** `<|eot_id|>`, `<end_of_turn>`, `</s>` and the like. */
const MARKER = /<\|[\w-]+\|>|<\/?[a-z][a-z_]*>/g;

const CONVERSATION = [
  textMessage('system', 'a'),
  textMessage('user', 'b'),
  textMessage('assistant', 'c'),
];

/** The markers that a format writes around messages. */
export interface Markers {
  /** Tokens of their own. */
  readonly tokens: readonly string[];
  /** Those that the tokenizer does not know and cuts into pieces. */
  readonly pieces: readonly string[];
}

export function markersOf(format: ChatFormat): Markers {
  const { tokenizer } = format;
  const ids = conversationIds(format);
  const written = new TextDecoder().decode(
    Buffer.concat(ids.filter((id) => id >= 0).map((id) => tokenizer.bytesOf(id))),
  );
  const tokens = ids.filter((id) => tokenizer.isSpecial(id)).map((id) => tokenizer.tokenOf(id)!);
  const pieces = (written.match(MARKER) ?? []).filter((each) => tokenizer.idOf(each) === undefined);
  return { tokens: [...new Set(tokens)], pieces: [...new Set(pieces)] };
}

/** @param stopTokens on which the model stops beside the ends that format and tokenizer know */
export function checkFormat(format: ChatFormat, stopTokens: readonly number[]): Finding[] {
  const missing = [...new Set([...format.missingTokens, ...markersOf(format).pieces])];
  const others = formatWarnings(format, stopTokens);
  // First: where markers are no tokens, an end of the answer that is none comes of it.
  const kinds = new Set(
    missing.length > 0 ? ['format-tokens-missing' as const, ...others] : others,
  );
  return [...kinds].map((code) => {
    const { cause, severity, fix } = FORMAT_KINDS[code];
    const names = code === 'format-tokens-missing' ? `: ${missing.join(', ')}` : '';
    const sentence = WARNINGS[code].split(': ')[0]!;
    const message = `template ${format.name}: ${sentence}${names}`;
    return finding(cause, { code, severity, message, fix });
  });
}

function conversationIds(format: ChatFormat): readonly number[] {
  for (const messages of [CONVERSATION, CONVERSATION.slice(1)]) {
    try {
      return format.training(messages).ids;
    } catch (error) {
      // A template that takes no system text, or not this conversation at all.
      if (!(error instanceof DataError)) throw error;
    }
  }
  return [];
}
