/** How `patina chat` is used. */
import type { Command } from 'commander';

import { addModelOptions, collect, countValue, numberValue, readingOption } from '../arguments.js';
import type { ChatFlags } from '../chat.js';
import { CHAT_COMMANDS } from '../chat-loop.js';
import type { Session } from '../session.js';

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
    .option(
      '--system <text>',
      "tell the model this before everything else; default: a run's; '' for nothing",
    )
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
    .addOption(readingOption())
    .option('--json', 'print one JSON object for each answer');
  addModelOptions(command)
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
    .action(async (model: string, question: string | undefined, flags: ChatFlags) => {
      const { chatCommand } = await import('../chat.js');
      await chatCommand(model, question, flags, session, input);
    });
}
