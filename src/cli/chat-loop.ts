/** Questions in, answers out: what `patina chat` does once the model is loaded. */
import { PatinaError } from '../base/errors.js';
import { jsonLine } from '../base/json-text.js';
import { plural } from '../base/format.js';
import type { AnswerSummary, AskOptions, Conversation } from '../generate/index.js';
import { describe, exitCodeOf, printError } from './print-error.js';
import { INTERRUPTED, interruptible, type Session } from './session.js';

export interface AnswerOptions {
  conversation: Conversation;
  ask: AskOptions;
  /** Print an object for each answer. */
  json: boolean;
  session: Session;
}

export interface ChatLoopOptions extends AnswerOptions {
  /** Someone sits there: after Ctrl-C the next line is taken, and errors are no reason to end with a code. */
  keepGoing: boolean;
}

export const CHAT_COMMANDS = `  /image FILE   show a picture with the next question
  /reset        forget the conversation
  /help         list the commands
  /exit         leave; so does Ctrl-D. Ctrl-C stops an answer.
`;

/**
 * Asks one question.
 *
 * @returns whether the answer came to its end, rather than being stopped by Ctrl-C
 * @throws those of `Conversation.ask`
 */
export async function answer(
  question: string,
  { conversation, ask, json, session }: AnswerOptions,
): Promise<boolean> {
  const { stdout, stderr } = session;
  const printable = stdout.isTTY === true ? withoutControls : (text: string): string => text;
  let text = '';
  const summary = await interruptible(async (signal) => {
    const pieces = conversation.ask(question, { ...ask, signal });
    try {
      for (;;) {
        const piece = await pieces.next();
        if (piece.done === true) return piece.value;
        text += piece.value;
        if (!json) stdout.write(printable(piece.value));
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      return undefined;
    } finally {
      if (!json && text !== '') stdout.write('\n');
    }
  });
  if (json) stdout.write(jsonLine(report(text, summary)));
  if (stderr.isTTY === true) {
    stderr.write(summary === undefined ? '(stopped)\n' : `(${describeSummary(summary)})\n`);
  }
  return summary !== undefined;
}

/** Asks line after line, until they end. Errors are shown, and the next line is taken. */
export async function chatLoop(
  lines: AsyncIterable<string>,
  options: ChatLoopOptions,
): Promise<void> {
  const { session, json, keepGoing } = options;
  for await (const line of lines) {
    const text = line.trim();
    if (text === '/exit' || text === '/quit') return;
    if (text === '') continue;
    try {
      if (text.startsWith('/')) await obey(text, options);
      else if (!(await answer(text, options)) && !keepGoing) {
        session.exitCode = INTERRUPTED;
        return;
      }
    } catch (error) {
      if (!(error instanceof PatinaError)) throw error;
      if (json) session.stdout.write(jsonLine({ error: describe(error) }));
      printError(error, session.stderr);
      if (!keepGoing) session.exitCode = exitCodeOf(error);
    }
  }
}

async function obey(line: string, { conversation, session }: ChatLoopOptions): Promise<void> {
  const [command = '', ...words] = line.split(/\s+/);
  const rest = line.slice(command.length).trim();
  const say = (text: string): unknown => session.stderr.write(`${text}\n`);
  if (command === '/reset' && words.length === 0) {
    conversation.reset();
    say('(forgotten)');
  } else if (command === '/image' && rest !== '') {
    await conversation.show(unquoted(rest));
    const { waiting } = conversation;
    say(`(${plural(waiting, 'picture')} for the next question)`);
  } else {
    if (line !== '/help') say(`There is no command "${line}".`);
    session.stderr.write(CHAT_COMMANDS);
  }
}

/** A path as terminals write one that is dropped on them. */
function unquoted(path: string): string {
  return /^(["']).*\1$/.test(path) ? path.slice(1, -1) : path;
}

function report(text: string, summary: AnswerSummary | undefined): object {
  if (summary === undefined) return { answer: text, finish: 'interrupted' };
  const { finish, promptTokens, newTokens, seconds } = summary;
  return { answer: text, finish, promptTokens, newTokens, seconds };
}

function describeSummary({ promptTokens, newTokens, seconds }: AnswerSummary): string {
  const speed = newTokens > 1 ? `, ${((newTokens - 1) / seconds.rest).toFixed(1)} tokens/s` : '';
  return `${promptTokens} + ${newTokens} tokens${speed}`;
}

/** What a model writes must not steer the terminal: of the control characters only line ends and tabs are kept. */
function withoutControls(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n\t]/gu, '\u{fffd}');
}
