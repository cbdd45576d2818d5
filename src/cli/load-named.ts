/** Loading a model as options of the command line name it and its parts. */
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
