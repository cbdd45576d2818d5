/**
 * Questions and answers in pairs, as XTuner's `llava_map_fn` makes them of whatever order a record has:
 * answers before the first question and questions after the last answer are dropped, consecutive questions become
 * one, an answer after an answer gets an empty question.
 */
import type { Message, Part } from './message.js';

export interface Turn {
  /** The messages of the user that make up the question. */
  readonly question: readonly Message[];
  readonly answer: readonly Part[];
}

/** What is odd about the order of a conversation. */
export type TurnFault =
  'leading-answer' | 'trailing-question' | 'consecutive-questions' | 'consecutive-answers';

export interface Paired {
  readonly system: readonly Part[] | undefined;
  readonly turns: readonly Turn[];
  readonly faults: readonly TurnFault[];
}

/** Pairs the messages of a conversation; a system message counts where it comes first. */
export function pairTurns(messages: readonly Message[]): Paired {
  const turns: Turn[] = [];
  const faults = new Set<TurnFault>();
  let question: Message[] = [];
  let asked = false;
  for (const message of messages) {
    if (message.role === 'system') continue;
    if (message.role === 'user') {
      if (question.length > 0) faults.add('consecutive-questions');
      question.push(message);
      asked = true;
    } else if (!asked) {
      faults.add('leading-answer');
    } else {
      if (question.length === 0) faults.add('consecutive-answers');
      turns.push({ question, answer: message.content });
      question = [];
    }
  }
  if (question.length > 0) faults.add('trailing-question');
  const first = messages[0];
  return {
    system: first?.role === 'system' ? first.content : undefined,
    turns,
    faults: [...faults],
  };
}
