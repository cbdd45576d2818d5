/** Loading a model as options of the command line name it and its parts. */
import { relative, resolve } from 'node:path';

import type { FitMode } from '../data/image/fit.js';
import { type ChatModelOptions, loadChatModel, type LoadedChatModel } from '../generate/index.js';
import { chooseDevice, type DType } from '../torch/index.js';
import { weightsIn } from '../train/run/run-weights.js';
import { LoadProgress } from './load-progress.js';
import type { Output } from './session.js';

export interface ModelFlags {
  adapter?: string[];
  base?: string;
  llm?: string;
  vision?: string;
  projector?: string;
  changedBase?: boolean;
  template?: string;
  tokenizer?: string;
  mode?: FitMode;
  device?: string;
  dtype?: DType;
}

/**
 * A name under which no other model stands: where it lies, for a run its checkpoint, and all that was chosen with it.
 *
 * @throws those of `weightsIn`
 */
export async function modelName(source: string, flags: ModelFlags): Promise<string> {
  const { adapter = [], base, llm, vision, projector, tokenizer, template, mode } = flags;
  const folders = Object.entries({ base, llm, vision, projector, tokenizer });
  let name = await placeName(source);
  for (const [part, path] of [...adapter.map((each) => ['adapter', each] as const), ...folders]) {
    if (path !== undefined) name += `, ${part} ${await placeName(path)}`;
  }
  if (template !== undefined) name += `, template ${template}`;
  return mode === undefined ? name : `${name}, mode ${mode}`;
}

/** As seen from here where it lies within; a name on the hub stays one. */
async function placeName(source: string): Promise<string> {
  const path = await weightsIn(source);
  const seen = relative('', path);
  return seen === '' || seen.startsWith('..') ? resolve(path) : seen;
}

/** @throws those of `loadChatModel` and `weightsIn`; the signal's reason */
export async function loadNamed(
  source: string,
  flags: ModelFlags,
  { stderr, ...options }: { stderr: Output } & Pick<ChatModelOptions, 'signal' | 'beside'>,
): Promise<LoadedChatModel> {
  const { adapter = [], base, llm, vision, projector, template, tokenizer, mode, dtype } = flags;
  const { changedBase } = flags;
  const { device } = chooseDevice(flags.device ?? 'auto');
  const progress = new LoadProgress(stderr);
  try {
    return await loadChatModel(await weightsIn(source), {
      adapters: await Promise.all(adapter.map((each) => weightsIn(each))),
      base: await weightsIn(base),
      llm: await weightsIn(llm),
      vision: await weightsIn(vision),
      projector: await weightsIn(projector),
      tokenizer: await weightsIn(tokenizer),
      ...{ template, device, changedBase },
      ...(dtype === undefined ? {} : { dtype }),
      imageMode: mode,
      onNotice: (message) => progress.notice(message),
      onDownload: (event) => progress.download(event),
      onProgress: (done, total) => progress.read(done, total),
      ...options,
    });
  } finally {
    progress.end();
  }
}
