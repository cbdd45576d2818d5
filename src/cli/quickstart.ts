/** `patina quickstart`: the whole story on pictures that it draws: data, tokenizer, two stages of training, answers, a model's folder. */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';

import { formatDuration } from '../base/format.js';
import { loadChatModel } from '../generate/index.js';
import { exportModel } from '../models/export/export-model.js';
import { findRecipe } from '../recipes/find-recipe.js';
import { isPrepared, prepareQuickstart, SIZES } from '../recipes/quickstart/prepare.js';
import { QUICKSTART_DATA } from '../recipes/quickstart/recipes.js';
import { scoreRecords, type ScoredAnswer } from '../recipes/quickstart/score.js';
import { train } from '../train/index.js';
import { collect } from './arguments.js';
import type { Session } from './commands.js';
import { jsonLine } from './json-text.js';
import { columns } from './train-view/event-lines.js';
import { watchTraining } from './watch-training.js';

interface Flags {
  set?: string[];
  json?: boolean;
}

export function define(command: Command, session: Session): void {
  command
    .option('--set <field=value>', 'set a field of both recipes; may be repeated', collect)
    .option('--json', 'print the result as one JSON object')
    .addHelpText(
      'after',
      `
Draws pictures of shapes, trains a small LLaVA on them in two stages (captions with everything
trained; then questions, the decoder by LoRA), and asks it about pictures that it has never seen.
Everything lies in ${QUICKSTART_DATA} and beside it afterwards. Takes about two minutes on two cores.

Examples:
  patina quickstart
  patina quickstart --set schedule.updates=100`,
    )
    .action(({ set = [], json = false }: Flags) => quickstartCommand(session, set, json));
}

async function quickstartCommand(session: Session, set: string[], json: boolean): Promise<void> {
  const begun = performance.now();
  const folder = resolve(QUICKSTART_DATA);
  const say = (line: string): void => void session.stderr.write(`${line}\n`);
  if (!(await isPrepared(folder))) {
    say(`drawing ${SIZES.train + SIZES.heldOut + SIZES.unseen} pictures and training a tokenizer`);
    await prepareQuickstart(folder);
  }
  const describer = await stage('quickstart', [], 'describer', 'captions, everything trains');
  if (describer === undefined) return;
  const from = `model.from=${describer}`;
  const model = await stage('quickstart-questions', [from], 'model', 'questions, by LoRA');
  if (model === undefined) return;

  say('\nasking about pictures that were never shown');
  const chat = await loadChatModel(model, { imageMode: 'crop' });
  try {
    const heldOut = await scoreRecords(chat, join(folder, 'heldout.json'));
    const unseen = await scoreRecords(chat, join(folder, 'unseen.json'));
    const seconds = (performance.now() - begun) / 1000;
    const result = { heldOut: count(heldOut), unseen: count(unseen), model, seconds };
    session.stdout.write(json ? jsonLine(result) : report(heldOut, result));
  } finally {
    chat.model.dispose();
  }

  /** Trains by a recipe and leaves the merged model in a folder; `undefined` where it was interrupted. */
  async function stage(
    name: string,
    more: readonly string[],
    target: string,
    what: string,
  ): Promise<string | undefined> {
    say(`\n${name}: ${what}`);
    const recipe = await findRecipe(name, { set: [...more, ...set] });
    const end = await watchTraining((signal) => train(recipe, { signal }), {
      session,
      ...(session.stderr.isTTY !== true && { interval: 3000 }),
    });
    if (end === undefined || end.reason === 'interrupted') return undefined;
    const out = join(folder, target);
    await exportModel(end.checkpoint!, 'hf', out, {
      merge: true,
      base: recipe.model.from,
      replace: true,
    });
    return out;
  }
}

interface Count {
  readonly right: number;
  readonly asked: number;
  /** Share of the answers that are right to the letter. */
  readonly accuracy: number;
}

function count(answers: readonly ScoredAnswer[]): Count {
  const right = answers.filter((answer) => answer.right).length;
  return { right, asked: answers.length, accuracy: right / answers.length };
}

/** Answers that are shown one by one. */
const SHOWN = 8;

function report(
  heldOut: readonly ScoredAnswer[],
  result: { heldOut: Count; unseen: Count; model: string; seconds: number },
): string {
  const every = Math.max(1, Math.floor(heldOut.length / SHOWN));
  const shown = heldOut.filter((_, i) => i % every === 0).slice(0, SHOWN);
  const example = heldOut[0]!;
  const line = (what: string, { right, asked, accuracy }: Count): string[] => [
    what,
    `${right} of ${asked}`,
    `${(100 * accuracy).toFixed(1)} %`,
  ];
  return [
    ...columns(
      shown.map(({ image, question, answer, wanted, right }) => [
        image,
        question,
        answer,
        right ? '' : `(wrong: ${wanted})`,
      ]),
    ),
    '',
    ...columns([
      line('pictures never shown', result.heldOut),
      line('shapes in colours never shown together', result.unseen),
    ]),
    '',
    `The model is in ${result.model}; it took ${formatDuration(result.seconds)}. What to type next:`,
    `  patina chat ${result.model} --image ${join(QUICKSTART_DATA, example.image)} "${example.question}"`,
    `  patina show ${join(QUICKSTART_DATA, 'questions.json')} --model ${result.model}`,
    '  patina runs show',
    '  patina train quickstart --data YOUR.json',
    '',
  ].join('\n');
}
