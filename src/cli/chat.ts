/** `patina chat`: asks a model questions about pictures, one or a whole conversation. */
import { UsageError } from '../base/errors.js';
import { readImageFile } from '../data/image/read-image.js';
import type { Reading } from '../data/image/rgb-image.js';
import { checkGenerateOptions, Conversation, type LoadedChatModel } from '../generate/index.js';
import { answer, chatLoop } from './chat-loop.js';
import { loadNamed, type ModelFlags } from './load-named.js';
import { pipedLines, terminalLines } from './question-lines.js';
import { INTERRUPTED, interruptible, type Session } from './session.js';

export interface ChatFlags extends ModelFlags {
  image?: string[];
  system?: string;
  maxNewTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed?: number;
  stop?: string[];
  reading?: Reading;
  json?: boolean;
}

export async function chatCommand(
  source: string,
  question: string | undefined,
  flags: ChatFlags,
  session: Session,
  input: NodeJS.ReadableStream & { isTTY?: boolean },
): Promise<void> {
  const { image: files = [], system, reading, json = false } = flags;
  const { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, seed, stop } = flags;
  const sampling = { temperature, topK, topP, minP, repetitionPenalty, seed };
  // What can be wrong is found before minutes go by over loading weights.
  if (question?.trim() === '') throw emptyQuestion();
  checkGenerateOptions({ maxNewTokens, ...sampling });
  for (const file of files) await readImageFile(file);
  const model = await load(source, flags, session);
  if (model === undefined) return;
  try {
    const conversation = new Conversation(model, { system, reading });
    for (const file of files) await conversation.show(file);
    const ask = { maxNewTokens, stopStrings: stop, ...sampling };
    const options = { conversation, ask, json, session };
    if (question !== undefined) {
      const whole = await answer(question, options);
      if (!whole) session.exitCode = INTERRUPTED;
      return;
    }
    const typed = input.isTTY === true && session.stderr.isTTY === true;
    if (typed) session.stderr.write(`Ask away; /help lists the commands.\n`);
    const lines = typed
      ? terminalLines({
          ...{ input, output: process.stderr, prompt: '> ' },
          hint: '(Ctrl-D or /exit leaves.)',
        })
      : pipedLines(input);
    await chatLoop(lines, { ...options, keepGoing: typed });
  } finally {
    model.model.dispose();
  }
}

/** @returns undefined where Ctrl-C has stopped it */
async function load(
  source: string,
  flags: ChatFlags,
  session: Session,
): Promise<LoadedChatModel | undefined> {
  return interruptible(async (signal) => {
    try {
      return await loadNamed(source, flags, { signal, stderr: session.stderr });
    } catch (error) {
      if (!signal.aborted) throw error;
      session.exitCode = INTERRUPTED;
      return undefined;
    }
  });
}

function emptyQuestion(): UsageError {
  return new UsageError('The question is empty.', {
    code: 'E_USAGE',
    hint: 'Give a question, or leave it out to be asked for one.',
  });
}
