/** How `patina plan` is used. */
import { Option, type Command } from 'commander';

import { collect } from '../arguments.js';
import type { PlanFlags } from '../plan.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .argument('<recipe>', 'name of a built-in recipe, or a .ts, .yaml or .json file')
    .option('--gpus <n x card>', 'GPUs to plan for, such as 8xA100-40GB', '1xH200')
    .option(
      '--set <field=value>',
      'set a field of the recipe, such as parallel.zero=3; may be repeated',
      collect,
    )
    .option(
      '--data [file]',
      "count the records of the recipe, or of a file in their place: lengths, updates and hours are then the data's",
    )
    .option(
      '--expandable',
      'plan for PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, under which less memory lies idle',
    )
    .option('--suggest', 'look for what is faster although the run fits')
    .option('--no-suggest', 'do not look for what fits where the run does not')
    .addOption(
      new Option('--largest <what>', 'the largest micro-batch that fits').choices(['batch']),
    )
    .addOption(new Option('--longest <what>', 'the longest record that fits').choices(['sample']))
    .addOption(new Option('--fewest <what>', 'how few of these GPUs are enough').choices(['gpus']))
    .option('--html <file>', 'write a page: memory through one update as a picture, and all tables')
    .option('--svg <file>', 'write the picture alone')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Runs the recipe's own training step, validation, probes and checkpoint on tensors
without memory: no GPU, no weights and no data are needed. Records are taken to be as
long as the recipe allows; with --data they are counted by the model's tokenizer, the
heaviest micro-batch of the run decides whether it fits, and one that is typical how
long it takes. What was counted is kept, so that it takes time once.
Ends with exit code 5 where the run does not fit; then it looks for the least change
that fits: more sharing (ZeRO), smaller micro-batches with more accumulated, levels
of what is kept for the backward, smaller optimizer states, offload, LoRA, a base in
4 or 8 bits. Each row is a plan of its own: lines for --set, memory, time, and what
it does to the numbers: nothing, rounding, or another method.

Examples:
  patina plan llava-llama-3-8b-finetune --gpus 8xA100-40GB
  patina plan llava-llama-3-8b-finetune --gpus 8xA100-40GB --set parallel.zero=3
  patina plan llava-llama-3-8b-lora --gpus RTX4090 --longest sample
  patina plan my-recipe.yaml --gpus 4xL40S --data --html plan.html
  patina plan my-recipe.yaml --gpus RTX4090 --set batchTokens=2048 --json`,
    )
    .action(async (recipe: string, flags: PlanFlags) => {
      const { planCommand } = await import('../plan.js');
      await planCommand(recipe, flags, session);
    });
}
