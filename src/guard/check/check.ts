/**
 * `check(recipe)`: what can be known of a run before it begins, as a stream of findings and a summary.
 *
 *     for await (const event of check(recipe)) console.log(event);
 */
import type { HubEvent } from '../../base/hub/resolve.js';
import type { Recipe } from '../../config/index.js';
import type { Cause } from '../causes.js';
import { CleanedCopy, type CleanedFacts } from './cleaned-copy.js';
import { checkData, type DataFacts } from './data-check.js';
import type { Finding } from './finding.js';
import { checkFormat } from './format-check.js';
import { openHollow, refusedModel, type HollowModel } from './open-hollow.js';
import { checkHalf, checkTraining } from './recipe-check.js';
import { checkStep } from './step-check.js';
import { checkWeights } from './weights-check.js';

/** What is checked; the rest of the recipe is passed over. */
export interface CheckParts {
  /** Whether the model is known; without it records are read and pictures decoded. */
  readonly model: boolean;
  /** Whether it is about a run: its rates, batch and number types are checked too. */
  readonly training: boolean;
}

export interface RunCheckOptions {
  /** @default both */
  readonly parts?: CheckParts | undefined;
  /** Write a cleaned copy of the data there. */
  readonly fix?: string | undefined;
  /** Only so many records. @default as the recipe says, else all */
  readonly most?: number | undefined;
  /** Threads for records; 0 works in this one. @default one for each core */
  readonly threads?: number | undefined;
  /** Devices that will train together. @default 1 */
  readonly worldSize?: number | undefined;
  /** Run the model on this machine too where it is not the one that will train. @default false */
  readonly deep?: boolean | undefined;
  /** Take models that a checkpoint stands on also where they have changed. @default false */
  readonly changedBase?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onDownload?: ((event: HubEvent) => void) | undefined;
  /** Is told how far it is. */
  readonly onProgress?: ((what: string, done: number, total: number) => void) | undefined;
}

/** The last event. */
export interface CheckSummary extends DataFacts {
  readonly type: 'summary';
  /** Kinds of findings. */
  readonly errors: number;
  readonly warnings: number;
  readonly seconds: number;
  /** Whether lengths are those of a tokenizer, and not estimated. */
  readonly counted: boolean;
  /** What was not checked, and why. */
  readonly notChecked: readonly string[];
  /** Of the first records, a token; `null` where it was not computed. */
  readonly loss: number | null;
  readonly cleaned?: CleanedFacts;
}

export type CheckEvent = Finding | CheckSummary;

/** A model that cannot be loaded so. */
const BROKEN: ReadonlySet<Cause> = new Set([
  'weights-not-loaded',
  'weights-not-finite',
  'quantised-base',
]);

const BOTH: CheckParts = { model: true, training: true };

/** @throws UsageError, EnvironmentError and DataError for what leaves nothing to check, as files that are not there */
export async function* check(
  recipe: Recipe,
  { parts = BOTH, fix, worldSize = 1, ...options }: RunCheckOptions = {},
): AsyncGenerator<CheckEvent, void> {
  const begun = performance.now();
  const { signal, onProgress } = options;
  const said = { error: 0, warning: 0 };
  const notChecked: string[] = [];
  const tell = function* (findings: readonly Finding[]): Generator<Finding, void> {
    for (const each of findings) {
      said[each.severity]++;
      yield each;
    }
  };
  const copy = fix === undefined ? undefined : await CleanedCopy.at(fix);
  try {
    let model: HollowModel | null = null;
    if (parts.model) {
      const opened = await openHollow(recipe, options).catch(refusedModel);
      if ('spec' in opened) {
        model = opened;
        yield* tell(model.findings);
        yield* tell(checkFormat(model.format, model.stopTokens));
      } else {
        yield* tell([opened]);
        notChecked.push('the model and tokens: first mend what is broken');
      }
    } else notChecked.push('the model and tokens: no model was given (--model)');
    const apart = recipe.data.limit === undefined ? (recipe.validation?.sources ?? []) : [];
    const data = await checkData([...recipe.data.sources, ...apart], {
      model: model?.spec ?? null,
      reading: recipe.image.reading,
      most: options.most ?? recipe.data.limit,
      threads: options.threads,
      ...{ signal, onDownload: options.onDownload },
      onProgress: (done, total) => onProgress?.('records', done, total),
      onFiles: (files) => copy?.begin(files),
      onRecord: copy && ((record, marks) => copy.add(record, marks)),
    });
    yield* tell(data.findings);
    const cleaned = await copy?.finish();
    let loss: number | null = null;
    if (model !== null) {
      const found = await checkWeights(model.tensors, {
        ...{ recipe, signal, firstUse: data.firstUse, place: data.place },
        tokenizer: model.format.tokenizer,
        onProgress: (done, total) => onProgress?.('weights', done, total),
      });
      yield* tell(found);
      const { traits, tensors } = model;
      const { training } = parts;
      const isWhole = [...model.findings, ...found].every(({ cause }) => !BROKEN.has(cause));
      if (isWhole && data.facts.bad < data.facts.records) {
        onProgress?.('loss and gradients', 0, 1);
        const step = await checkStep(recipe, { ...options, traits, training });
        loss = step.loss;
        yield* tell(step.findings);
        notChecked.push(...step.notChecked);
      } else notChecked.push('loss and gradients: first mend what is broken');
      if (loss === null) yield* tell(checkHalf(recipe, tensors));
      if (training) {
        const { records } = data.facts;
        yield* tell(checkTraining(recipe, { traits, tensors, records, worldSize }));
      }
    }
    yield {
      type: 'summary',
      ...data.facts,
      ...{ errors: said.error, warnings: said.warning, counted: model !== null, notChecked, loss },
      seconds: (performance.now() - begun) / 1000,
      ...(cleaned && { cleaned }),
    };
  } catch (error) {
    await copy?.abandon();
    throw error;
  }
}
