/** `patina chat`: asks a model questions about pictures, one or a whole conversation. */
import { UsageError } from '../base/errors.js';
import type { FitMode } from '../data/image/fit.js';
import { readImageFile } from '../data/image/read-image.js';
import type { Reading } from '../data/image/rgb-image.js';
import { checkGenerateOptions, Conversation, loadChatModel } from '../generate/index.js';
import { chooseDevice, type DType } from '../torch/index.js';
import { weightsIn } from '../train/run/run-weights.js';
import { answer, chatLoop } from './chat-loop.js';
import { LoadProgress } from './load-progress.js';
import { pipedLines, terminalLines } from './question-lines.js';
import { INTERRUPTED, interruptible, type Session } from './session.js';

export interface ChatFlags {
  image?: string[];
  adapter?: string[];
  base?: string;
  llm?: string;
  vision?: string;
  projector?: string;
  system?: string;
  changedBase?: boolean;
  template?: string;
  tokenizer?: string;
  maxNewTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed?: number;
  stop?: string[];
  mode?: FitMode;
  reading?: Reading;
  device?: string;
  dtype?: DType;
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
): Promise<Awaited<ReturnType<typeof loadChatModel>> | undefined> {
  const { adapter = [], base, llm, vision, projector, template, tokenizer, mode, dtype } = flags;
  const { changedBase } = flags;
  const { device } = chooseDevice(flags.device ?? 'auto');
  const progress = new LoadProgress(session.stderr);
  return interruptible(async (signal) => {
    try {
      return await loadChatModel(await weightsIn(source), {
        adapters: await Promise.all(adapter.map((each) => weightsIn(each))),
        base: await weightsIn(base),
        llm: await weightsIn(llm),
        vision: await weightsIn(vision),
        projector: await weightsIn(projector),
        tokenizer: await weightsIn(tokenizer),
        ...{ template, signal, device, changedBase },
        ...(dtype === undefined ? {} : { dtype }),
        imageMode: mode,
        onNotice: (message) => progress.notice(message),
        onDownload: (event) => progress.download(event),
        onProgress: (done, total) => progress.read(done, total),
      });
    } catch (error) {
      if (!signal.aborted) throw error;
      session.exitCode = INTERRUPTED;
      return undefined;
    } finally {
      progress.end();
    }
  });
}

function emptyQuestion(): UsageError {
  return new UsageError('The question is empty.', {
    code: 'E_USAGE',
    hint: 'Give a question, or leave it out to be asked for one.',
  });
}
