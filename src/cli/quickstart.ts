/** `patina quickstart`: the whole story on pictures that it draws: data, tokenizer, two stages of training, answers, a model's folder. */
import { join, resolve } from 'node:path';

import { jsonLine } from '../base/json-text.js';
import { loadChatModel } from '../generate/index.js';
import { exportChatModel } from '../generate/export-chat-model.js';
import { findRecipe } from '../recipes/find-recipe.js';
import { QUICKSTART_DATA } from '../recipes/quickstart/recipes.js';
import { scoreRecords } from '../recipes/quickstart/score.js';
import { train } from '../guard/index.js';
import type { TrainEvent } from '../train/index.js';
import type { Session } from './session.js';
import { drawIfNeeded } from './quickstart-data.js';
import { countRight, quickstartReport } from './quickstart-report.js';
import { watchTraining } from './watch-training.js';

export interface QuickstartFlags {
  set?: string[];
  json?: boolean;
}

export async function quickstartCommand(
  { set = [], json = false }: QuickstartFlags,
  session: Session,
): Promise<void> {
  const begun = performance.now();
  const folder = resolve(QUICKSTART_DATA);
  const say = (line: string): void => void session.stderr.write(`${line}\n`);
  // A wrong setting is told before anything is drawn.
  for (const name of ['quickstart', 'quickstart-questions']) await findRecipe(name, { set });
  const describer = await stage('quickstart', [], 'describer', 'captions, everything trains');
  if (describer === undefined) return;
  say('');
  const from = `model.from=${describer}`;
  const model = await stage('quickstart-questions', [from], 'model', 'questions, by LoRA');
  if (model === undefined) return;

  say('\nasking about pictures that were never shown');
  const chat = await loadChatModel(model, { imageMode: 'crop' });
  try {
    const heldOut = await scoreRecords(chat, join(folder, 'heldout.json'));
    const unseen = await scoreRecords(chat, join(folder, 'unseen.json'));
    const seconds = (performance.now() - begun) / 1000;
    const counts = { heldOut: countRight(heldOut), unseen: countRight(unseen) };
    session.stdout.write(
      json
        ? jsonLine({ ...counts, model, seconds })
        : quickstartReport({ heldOut, unseen, model, data: folder, seconds }, typed()),
    );
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
    say(`${name}: ${what}`);
    const recipe = await findRecipe(name, { set: [...more, ...set] });
    const open = async (signal: AbortSignal): Promise<AsyncIterable<TrainEvent>> => {
      await drawIfNeeded(recipe, session, signal);
      return train(recipe, { signal });
    };
    const end = await watchTraining(open, {
      session,
      ...(session.stderr.isTTY !== true && { interval: 3000 }),
    });
    if (end === undefined || end.reason === 'interrupted') return undefined;
    const out = join(folder, target);
    await exportChatModel(end.checkpoint!, 'hf', out, {
      merge: true,
      base: recipe.model.from,
      replace: true,
    });
    return out;
  }
}

/** How whoever reads this types the command: `npm start` needs no `patina` on the PATH. */
function typed(): string {
  return process.env['npm_lifecycle_event'] === 'start' ? 'npx --no-install patina' : 'patina';
}
