/**
 * Answers of several ranks that share a model out, each to prompts of its own: all go through the model in step, since each visit of
 * a segment brings its parameters to all of them, until the last answer is whole.
 *
 * B: prompts, V: vocabulary.
 */
import { drive, type LanguageModel, type Residency, type Steps, walk } from '../models/index.js';
import { noGrad, scope, tensor, type Tensor } from '../torch/index.js';
import { Answer, type AnswerOptions } from './answer.js';
import { CachedContinuation } from './continuation.js';
import { checkGenerateOptions } from './generate.js';
import { checkContext, contextLength, type Prompt } from './prompt.js';
import { notFinite, readSampling, readTokens, Sampler } from './sampling.js';

/** Takes a step that every rank takes, and gives what it gave on each, by rank. Where it fails on one it fails on all. Values are plain data. */
export type Each = <T>(step: () => T | Promise<T>) => Promise<readonly T[]>;

export interface InStepOptions extends AnswerOptions {
  /** Brings the parameters. */
  readonly residency: Residency;
  readonly each: Each;
  /** Ends answers between two tokens; raised on all ranks while they take a step. */
  readonly signal?: AbortSignal | undefined;
}

/** Of all rows at once; it has no state. */
const GREEDY = new Sampler(readSampling({}), { prompts: [], vocabSize: 0, device: 'cpu' });

/**
 * Continues prompts by the most probable tokens; every rank calls it, also one that has none.
 *
 * @returns the texts of this rank's answers
 * @throws on all ranks UsageError `E_SAMPLING`, `E_STOP_STRINGS`; DataError `E_CONTEXT`; NonFiniteError `E_LOGITS`; the signal's reason
 */
export async function generateInStep(
  model: LanguageModel,
  prompts: readonly Prompt[],
  { residency, each, signal, ...options }: InStepOptions,
): Promise<string[]> {
  const context = contextLength(model);
  await each(() => {
    checkGenerateOptions(options);
    checkContext(prompts, context);
  });
  signal?.throwIfAborted();
  const answers = prompts.map((prompt) => new Answer(prompt, context, options));
  const texts = prompts.map(() => '');
  const continuation = new CachedContinuation(model, prompts, { residency });
  let tokens: Tensor | undefined;
  const { device } = model.decoder.embedTokens.weight;
  const take = (logits: Tensor): void => {
    const chosen = noGrad(() => scope(() => readTokens(GREEDY.choose(logits), logits)));
    tokens?.dispose();
    const next = chosen.map((token) => token ?? 0);
    tokens = noGrad(() => scope(() => tensor(next, { dtype: 'int64', device }))).keep();
    answers.forEach((answer, row) => {
      const token = chosen[row]!;
      if (answer.finish !== null) return;
      if (token === null) throw notFinite(`prompt ${row}`);
      texts[row] = texts[row]! + answer.add(token);
    });
  };
  try {
    for (let isFirst = true; ; isFirst = false) {
      let more: readonly boolean[];
      if (answers.some(isOpen)) {
        // What goes wrong here does so among collectives: others learn of it as of the loss of this rank.
        using logits = await drive(
          tokens === undefined ? continuation.start() : continuation.next(tokens),
        );
        more = await each(() => {
          take(logits);
          return answers.some(isOpen);
        });
      } else {
        await drive(beside(model, residency, isFirst));
        more = await each(() => false);
      }
      signal?.throwIfAborted();
      if (!more.includes(true)) return texts;
    }
  } finally {
    tokens?.dispose();
    continuation.dispose();
  }
}

/** The visits of a step, without work. */
function* beside(
  { segments, head }: LanguageModel,
  residency: Residency,
  isFirst: boolean,
): Steps<void> {
  // Pictures are in the prompts alone.
  const visited = [...segments.filter(({ visual }) => isFirst || !visual), head];
  yield* walk(visited, { phase: 'forward', residency }, () => undefined);
}

function isOpen({ finish }: Answer): boolean {
  return finish === null;
}
