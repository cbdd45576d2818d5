/**
 * What is odd about records that are trained on all the same, and about the format that they are written in: every kind with its
 * sentence. `patina show` and training tell the same.
 */
import { DataError } from '../base/errors.js';
import type { ChatFormat } from '../text/chat-format.js';
import { textMessage } from '../text/message.js';
import type { TurnFault } from '../text/turns.js';
import type { RecordWarning } from './records/record.js';

/** Of a record that was encoded. */
export type EncodeWarning =
  | TurnFault
  | RecordWarning
  | 'special-tokens-as-text'
  | 'format-tokens-missing'
  | 'truncated'
  | 'end-cut'
  | 'beyond-context';

/** Of a format, whatever the record. */
export type FormatWarning = 'format-tokens-missing' | 'end-not-learned' | 'first-token-missing';

export type DataWarning = EncodeWarning | FormatWarning;

/** Sentences for people. */
export const WARNINGS: Readonly<Record<DataWarning, string>> = {
  'leading-answer': 'an answer before the first question is not learned',
  'trailing-question': 'a question after the last answer is of no use',
  'consecutive-questions': 'questions without an answer between them are joined',
  'consecutive-answers': 'an answer follows an answer',
  'two-systems':
    'of system texts that differ the message counts, then `system`, then `system_prompt`',
  'flags-unheeded':
    'a `loss` or `weight` is not heeded: all answers are learned alike, and nothing else',
  'special-tokens-as-text': 'text that spells a special token stays text',
  'format-tokens-missing': 'the tokenizer lacks special tokens of the format, which become text',
  truncated: 'the record is cut off at `maxLength`',
  'end-cut': 'an answer is cut off with its end: nothing there teaches the model to stop',
  'beyond-context': 'the record is longer than the context that the model was made for',
  'end-not-learned':
    'no token that ends an answer is learned, so that the model will not stop by itself: set text.template (--template) to llama3_chat, qwen_chat, vicuna, or a Jinja file that ends each answer',
  'first-token-missing':
    'the template does not write the first token (BOS) that the tokenizer puts before every text',
};

/**
 * What is odd about a format, as a short conversation shows.
 *
 * @param stopTokens on which the model stops beside the ends that format and tokenizer know
 */
export function formatWarnings(
  format: ChatFormat,
  stopTokens: readonly number[] = [],
): FormatWarning[] {
  const { tokenizer, endOfTurn, missingTokens } = format;
  const kinds: FormatWarning[] = missingTokens.length > 0 ? ['format-tokens-missing'] : [];
  try {
    const { ids, labels } = format.training([
      textMessage('user', 'a'),
      textMessage('assistant', 'b'),
    ]);
    const ends = new Set([endOfTurn, tokenizer.eosId, ...stopTokens]);
    if (!labels.some((label) => ends.has(label))) kinds.push('end-not-learned');
    const { bosId } = tokenizer;
    const wantsBos = bosId !== undefined && tokenizer.specialFrame.before.includes(bosId);
    if (wantsBos && ids[0] !== bosId) kinds.push('first-token-missing');
  } catch (error) {
    // A template that does not take this conversation, or a tokenizer whose own way is not known: there is nothing to compare.
    if (!(error instanceof DataError)) throw error;
  }
  return kinds;
}
