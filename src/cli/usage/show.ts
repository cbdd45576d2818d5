/** How `patina show` is used. */
import { type Command, Option } from 'commander';

import { CHANGED_BASE, countValue, indexValue, modeOption, readingOption } from '../arguments.js';
import type { Session } from '../session.js';
import type { ShowFlags } from '../show.js';

export function define(command: Command, session: Session): void {
  command
    .option('--model <model>', 'folder or hub name of the model, or a run')
    .option(
      '--tokenizer <model>',
      'folder or hub name of the tokenizer; then --data needs no model',
    )
    .option('--data <file>', 'show records of this file, folder or hub name')
    .option('--index <n>', 'only this record, from 0', indexValue)
    .option('--image <file>', 'show a picture; with --size it needs no model')
    .option('--out <file.png>', 'write the pixels of the picture after resizing')
    .option(
      '--template <name>',
      "chat template: llama3_chat, qwen_chat, vicuna, or a Jinja file; default: a run's, else the tokenizer's",
    )
    .option('--system <text>', "system text of records without one; default: a run's, else none")
    .option('--max-length <n>', 'cut records after so many tokens', countValue)
    .option(
      '--image-tokens <n>',
      "count a picture as so many tokens; default: the model's, 1 without one",
      countValue,
    )
    .option(
      '--size <pixels>',
      "side of the square that pictures become; default: the model's",
      countValue,
    )
    .addOption(modeOption())
    .addOption(readingOption())
    .addOption(
      new Option('--special-tokens <what>', 'what text that spells a special token is')
        .choices(['text', 'parse'])
        .default('text'),
    )
    .option('--expand', 'with --json: write a picture as its tokens, not as one -200')
    .option('--changed-base', CHANGED_BASE)
    .option(
      '--json',
      'one line for each record: {id, input_ids, labels}, or {id, error}; one object for a picture',
    )
    .addHelpText(
      'after',
      `
Examples:
  patina show --model MODEL --data data.json --index 0
  patina show --tokenizer MODEL --data data.json --json
  patina show --model MODEL --image photo.jpg --out seen.png

Exit code: 4 if a record is bad.`,
    )
    .action(async (flags: ShowFlags) => {
      const { showCommand } = await import('../show.js');
      await showCommand(flags, session);
    });
}
