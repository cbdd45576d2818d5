/** `patina chat`: asks a model questions about pictures, one or a whole conversation. */
import type { Command } from 'commander';
import { Option } from 'commander';

import { UsageError } from '../base/errors.js';
import type { FitMode } from '../data/image/fit.js';
import { readImageFile } from '../data/image/read-image.js';
import type { Reading } from '../data/image/rgb-image.js';
import { checkGenerateOptions, Conversation, loadChatModel } from '../generate/index.js';
import { chooseDevice, type DType } from '../torch/index.js';
import { weightsIn } from '../train/run/run-weights.js';
import { collect, countValue, dtypeValue, numberValue } from './arguments.js';
import { answer, CHAT_COMMANDS, chatLoop, INTERRUPTED, interruptible } from './chat-loop.js';
import type { Session } from './commands.js';
import { LoadProgress } from './load-progress.js';
import { pipedLines, terminalLines } from './question-lines.js';

interface ChatFlags {
  image?: string[];
  adapter?: string[];
  base?: string;
  llm?: string;
  vision?: string;
  projector?: string;
  system?: string;
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

/** @param input where questions are read from, if none is given */
export function define(
  command: Command,
  session: Session,
  input: NodeJS.ReadableStream & { isTTY?: boolean } = process.stdin,
): void {
  command
    .argument('<model>', 'folder, file or hub name of a model, in any layout, or a run')
    .argument('[question]', 'ask this and end')
    .option('--image <file>', 'show a picture with the first question; may be repeated', collect)
    .option('--adapter <adapter>', 'load a PEFT adapter over it; may be repeated', collect)
    .option('--base <model>', 'the model beneath an adapter, where the adapter names another')
    .option('--llm <model>', 'the decoder, where the model has none')
    .option('--vision <model>', 'the vision tower, where the model has none')
    .option('--projector <path>', 'the projector, where the model has none')
    .option('--system <text>', 'tell the model this before everything else')
    .option(
      '--template <name>',
      "chat template: llama3_chat, vicuna, or a Jinja file; default: model's own",
    )
    .option('--tokenizer <model>', "folder or hub name of the tokenizer; default: the model's own")
    .option('--max-new-tokens <n>', 'most tokens of an answer; default: 512', countValue)
    .option(
      '--temperature <t>',
      'draw tokens; 0 takes the best; default: 0, or 1 with --top-k, --top-p or --min-p',
      numberValue,
    )
    .option('--top-k <k>', 'draw from so many best tokens', numberValue)
    .option(
      '--top-p <p>',
      'draw from the fewest best tokens that together are this probable',
      numberValue,
    )
    .option(
      '--min-p <p>',
      'draw from tokens at least this fraction as probable as the best',
      numberValue,
    )
    .option('--repetition-penalty <r>', 'make what was said less probable; default: 1', numberValue)
    .option('--seed <n>', 'seed of the draws; default: 0', numberValue)
    .option('--stop <text>', 'end an answer before this text; may be repeated', collect)
    .addOption(
      new Option(
        '--mode <mode>',
        'how pictures become squares; default: as the model says, else pad',
      ).choices(['pad', 'crop']),
    )
    .addOption(
      new Option(
        '--reading <reading>',
        'turn pictures upright by their EXIF, or not; default: turned',
      ).choices(['turned', 'stored']),
    )
    .option('--device <device>', 'cpu, cuda or cuda:1; default: the first GPU, if any')
    .option('--dtype <type>', 'bf16, fp16 or fp32; default: as the weights are stored', dtypeValue)
    .option('--json', 'print one JSON object for each answer')
    .addHelpText(
      'after',
      `
Examples:
  patina chat MODEL --image photo.jpg "What is in the picture?"
  patina chat runs/NAME
  patina chat LLM --vision VISION --adapter runs/NAME
  cat questions.txt | patina chat MODEL --image photo.jpg --json

Without a question, questions are read line by line. In a chat:
${CHAT_COMMANDS}`,
    )
    .action((model: string, question: string | undefined, flags: ChatFlags) =>
      chat(model, question, flags, session, input),
    );
}

async function chat(
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
        ...{ template, signal, device },
        ...(dtype === undefined ? {} : { dtype }),
        imageMode: mode,
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
