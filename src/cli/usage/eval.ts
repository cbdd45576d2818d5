/** How `patina eval` is used. */
import type { Command } from 'commander';

import { addModelOptions, collect, countValue } from '../arguments.js';
import type { EvalFlags } from '../eval.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .argument(
      '<model>',
      'folder, file or hub name of a model, or a run; or - for none: --answers are scored as they are',
    )
    .argument('<task>', 'one of those below')
    .requiredOption('--data <file>', 'the questions: TSV, JSON or JSON Lines; always needed')
    .option('--images <folder>', 'the pictures; default: beside the questions')
    .option(
      '--harness <name>',
      "by whose rules: llava, vlmevalkit, lmms-eval or xtuner; default: the task's first",
    )
    .option('--answers <file>', 'keep the answers here, and ask only what has none yet')
    .option('--scores <file>', 'write what was made of each answer, as JSON Lines')
    .option('--submission <file>', "write the .xlsx file that MMBench's server takes")
    .option('--compare <file>', "another model's answers to the same questions (McNemar)")
    .option('--limit <n>', 'only the first so many questions', countValue)
    .option('--rows <n>', 'most questions at once; default: 16', countValue)
    .option('--adapter <adapter>', 'load a PEFT adapter over it; may be repeated', collect)
    .option('--system <text>', "tell the model this first; default: a run's; '' for nothing")
    .option(
      '--name <name>',
      'the model as the answers name it; default: where it and its parts lie',
    )
    .option('--json', 'print one JSON object');
  addModelOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  patina eval MODEL pope --data coco/ --images val2014/ --answers pope.jsonl
  patina eval MODEL exact --data mine.jsonl --json
  patina eval - pope --data coco/ --answers pope.jsonl --harness vlmevalkit
  patina eval - pope --data coco/ --answers tuned.jsonl --compare base.jsonl

Tasks, and by whose rules each is scored, the default first:
  exact      your own questions and answers: lmms-eval, vlmevalkit
  choice     your own questions with choices: vlmevalkit, llava, lmms-eval
  pope       llava, vlmevalkit, lmms-eval
  mme        vlmevalkit, lmms-eval
  mmbench    vlmevalkit, xtuner, lmms-eval
  scienceqa  llava, vlmevalkit, lmms-eval
  textvqa    llava, lmms-eval, vlmevalkit
  gqa        lmms-eval, vlmevalkit, llava
  refcoco    xtuner, lmms-eval

Nothing is downloaded; docs/evaluation.md says where the data are had and what they look like.`,
    )
    .action(async (model: string, task: string, flags: EvalFlags & { data: string }) => {
      const { evalCommand } = await import('../eval.js');
      await evalCommand(model, task, flags, session);
    });
}
