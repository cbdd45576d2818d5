/**
 * Kinds of what is found in records: which cause each has, how grave it is, what to do, and whether a cleaned copy leaves such
 * records out. What the loader refuses keeps its code and hint.
 */
import type { DataWarning } from '../../data/index.js';
import type { Cause } from '../causes.js';
import { causeOfError } from '../diagnose/errors.js';
import type { Kind } from './finding.js';

type Fixed = Omit<Kind, 'code'>;

const error = (cause: Cause, fix: string): Fixed => ({
  cause,
  severity: 'error',
  fix,
  leave: true,
});
const warning = (cause: Cause, fix: string, { leave = false } = {}): Fixed => ({
  ...{ cause, severity: 'warning', fix, leave },
});

/** What nothing but this room looks for. */
const OWN_KINDS = {
  'empty-answer': error(
    'empty-answer',
    'Give the record its answer, or leave it out: it teaches the model to say nothing.',
  ),
  'answer-cut': error(
    'answer-truncated',
    'Raise `text.maxLength` (and `batchTokens`, if that is less), or leave the record out.',
  ),
  'answer-cut-short': warning(
    'answer-truncated',
    'Raise `text.maxLength` (and `batchTokens`, if that is less), or shorten the record; else the model learns answers without an end.',
  ),
  'answer-masked': error(
    'template-mismatch',
    'Set `text.template` to the template of this model (`patina show` marks what is learned): the one in use marks no answer of the record.',
  ),
  'markers-in-text': warning(
    'template-mismatch',
    "Write messages without the chat template's own markers: they are added in training, and in text they stay text.",
  ),
  'id-outside': error(
    'id-out-of-vocabulary',
    'Use the tokenizer that belongs to the model (`model.tokenizer`), or add rows for its tokens to the embeddings.',
  ),
  'constant-image': warning(
    'constant-image',
    'Look at the picture (`patina show --image FILE`): fetch it again if it should show something, else leave the record out.',
    { leave: true },
  ),
  'repeated-text': warning(
    'repeated-text',
    'Cut the text where it begins to repeat itself, or leave the record out: such texts bring spikes, and models that repeat themselves.',
    { leave: true },
  ),
  'duplicate-record': warning(
    'duplicate-records',
    'Keep one of them; to have it count more, give its source a `weight`.',
    { leave: true },
  ),
} as const satisfies Record<string, Fixed>;

type OwnCode = keyof typeof OWN_KINDS;

export function ownKind(code: OwnCode): Kind {
  return { code, ...OWN_KINDS[code] };
}

/** A record that training refuses, with the code that it refuses it with. `unknown`: its form is at fault, not what it would teach. */
export function refusedKind(code: string, hint: string): Kind {
  return {
    cause: causeOfError(code) ?? 'unknown',
    code,
    severity: 'error',
    fix: hint,
    leave: true,
  };
}

/** What is odd about a record that is trained on; `undefined` for what another kind tells, or the format. */
export function oddKind(code: DataWarning): Kind | undefined {
  const fixed = ODD[code];
  return fixed === undefined ? undefined : { code, ...fixed };
}

const ODD: Partial<Record<DataWarning, Fixed>> = {
  'leading-answer': warning('no-supervision', 'Put the question before it.'),
  'trailing-question': warning('no-supervision', 'Give the question an answer, or take it out.'),
  'consecutive-questions': warning('unknown', 'Give each question an answer, or make them one.'),
  'consecutive-answers': warning('unknown', 'Put a question between them, or make them one.'),
  'two-systems': warning('unknown', 'Keep one system text.'),
  'flags-unheeded': warning(
    'unknown',
    'Take out messages that are not to be learned, and the field.',
  ),
  'special-tokens-as-text': warning(
    'unknown',
    'Set `text.specialTokens` to "parse" if the tokens themselves are meant.',
  ),
  'beyond-context': warning(
    'answer-truncated',
    'Lower `text.maxLength` to what the model was made for.',
  ),
};

/** What is odd about a format, whatever the record. */
export const FORMAT_KINDS: Readonly<
  Record<'format-tokens-missing' | 'end-not-learned' | 'first-token-missing', Fixed>
> = {
  'format-tokens-missing': error(
    'template-mismatch',
    'Set `text.template` to the one that this tokenizer was made for, or use the tokenizer of the template.',
  ),
  'end-not-learned': error(
    'end-of-turn-unlearnt',
    'Set `text.template` to llama3_chat, qwen_chat, vicuna, or a Jinja file that ends each answer with a token on which the model stops.',
  ),
  'first-token-missing': warning(
    'template-mismatch',
    'Let the template begin with bos_token, as the model has seen every text.',
  ),
};
