/** The guard of a run: sees its updates, examines bad ones, and says what becomes of them. */

import type { Recipe } from '../config/index.js';
import { LanguageModel, type SegmentedModel } from '../models/index.js';
import {
  guarded,
  ofRanks,
  type DiagnosisEvent,
  type Guard,
  type GuardCounters,
  type Scene,
  type SeenUpdate,
  type UpdateEvent,
  type Verdict,
} from '../train/index.js';
import type { Cause } from './causes.js';
import { explainError } from './diagnose/errors.js';
import { advice, pageOf, type AdviceFacts } from './diagnose/advice.js';
import { classify, some } from './diagnose/classify.js';
import type { Finding } from './diagnose/finding.js';
import { oddSteps } from './diagnose/odd-steps.js';
import { inspectPositions } from './diagnose/positions.js';
import { left, risen } from './diagnose/risen.js';
import { stopped } from './diagnose/stopped.js';
import { climb } from './ladder.js';
import { gatherEvidence } from './replay/gather-evidence.js';
import { groupFactor, tooHighRate, type HighRate } from './usual-rate.js';
import { Course } from './watch/course.js';
import { GradientWatch } from './watch/gradient-watch.js';
import { Skips } from './watch/skips.js';
import { StepWatch, type OddSteps } from './watch/step-watch.js';

type Trouble =
  | { readonly kind: 'not-finite' | 'rise' | 'left' | 'unsupervised' | 'skips' | 'stopped' }
  | { readonly kind: 'no-gradient'; readonly names: readonly string[] }
  | { readonly kind: 'steps'; readonly steps: OddSteps };

/** Of these no record is to blame, whichever it shows in first. */
const OF_THE_RUN: readonly Cause[] = [
  'learning-rate-too-high',
  'no-clipping',
  'overlap-race',
  'offload-race',
];

/** That the rate is too high, by the course of the loss. */
const RATE = 'rise learning-rate-too-high';

/** Below it a gradient of 0 is what is left of a loss that is learnt to the last bit. */
const LEARNT = 0.01;

/** Of a finding that says no more than its cause. */
const NOTHING_MORE = { evidence: [], records: [], module: null, rank: null } as const;

export class RunGuard implements Guard {
  private course: Course | null = null;
  private readonly gradients = new GradientWatch();
  private readonly skips = new Skips();
  private readonly steps = new StepWatch();
  private trouble: Trouble | null = null;
  private scale: number | null = null;
  private answered = 0;
  /** Learning rate of any update. */
  private highest = 0;
  private inRow = 0;
  private hiddenSize: number | undefined;
  /** Causes that are told once. */
  private readonly told = new Set<string>();

  constructor(private readonly recipe: Recipe) {}

  begin(model: SegmentedModel): readonly DiagnosisEvent[] {
    this.course = new Course(Math.log(model.input.vocabSize));
    this.hiddenSize = model instanceof LanguageModel ? model.decoder.config.hiddenSize : undefined;
    const finding = inspectPositions(model);
    return finding === null ? [] : [this.event(finding, 0, { sequences: 0 })];
  }

  see(seen: SeenUpdate): boolean {
    this.trouble = this.judge(seen);
    return this.trouble !== null;
  }

  private judge({ event, numbers, tensorNames }: SeenUpdate): Trouble | null {
    const { loss, skipped, lossScale, counts } = event;
    const before = this.scale ?? this.recipe.precision.lossScale.initial;
    this.scale = lossScale;
    const rises = this.course!.add(event);
    const loses = this.skips.add(skipped);
    if (skipped) {
      const forward = loss !== null && !Number.isFinite(loss);
      // A loss scale that is too large is found by trying.
      const searching = lossScale !== null && before > this.recipe.precision.lossScale.minimum;
      if (!searching || forward) return { kind: 'not-finite' };
      return loses && this.once('silent-skip') ? { kind: 'skips' } : null;
    }
    this.inRow = 0;
    this.highest = Math.max(this.highest, event.learningRate);
    if (loss === null)
      return counts.sequences > 0 && this.once('no-supervision') ? { kind: 'unsupervised' } : null;
    if (rises) return { kind: 'rise' };
    if (this.course!.left !== null && this.tooHigh !== null && this.once(RATE)) {
      return { kind: 'left' };
    }
    const names = this.gradients.add(tensorNames, numbers.tensorNorms);
    if (names.length > 0) return { kind: 'no-gradient', names };
    if (this.gradients.stopped && loss > LEARNT && this.once('stopped')) return { kind: 'stopped' };
    // Last, since ranks may differ in it.
    const { step } = event;
    if (step === undefined) return null;
    const gradient = numbers.tensorNorms[tensorNames.indexOf(step.tensor)];
    const learningRate = this.rateOf(step, event);
    const steps = this.steps.add({ step, learningRate }, gradient ?? 0);
    return steps !== null && this.once(`steps ${steps.kind}`) ? { kind: 'steps', steps } : null;
  }

  async examine(scene: Scene): Promise<Verdict> {
    const trouble = this.trouble!;
    switch (trouble.kind) {
      case 'not-finite':
        return this.examineBad(scene);
      case 'rise':
        return this.examineRise(scene);
      case 'unsupervised':
        return this.tell(scene, {
          ...{ cause: 'no-supervision', confidence: 1 },
          message: 'no token of the update is to be learnt: its gradient is 0',
        });
      case 'skips':
        return this.tell(scene, {
          ...{ cause: 'silent-skip', confidence: 0.9 },
          message: `${this.skips.count} of the last ${this.skips.of} updates were left out since their gradient overflowed at its loss scale, now ${scene.event.lossScale!}: what they held is not learnt`,
          evidence: [
            `the scale is above its minimum of ${this.recipe.precision.lossScale.minimum}, and doubles after ${this.recipe.precision.lossScale.window} updates without overflow`,
          ],
        });
      case 'no-gradient':
        return this.tell(scene, {
          ...{ cause: 'no-gradient', confidence: 0.9 },
          message: `${trouble.names.slice(0, 3).join(', ')}${trouble.names.length > 3 ? ` and ${trouble.names.length - 3} more` : ''} got no gradient but 0 in ${GradientWatch.UPDATES} updates`,
          module: trouble.names[0]!.replace(/\.[^.]*$/, ''),
        });
      case 'stopped':
        return this.tell(scene, stopped(scene.event, this.tooHigh));
      case 'left':
        return this.tell(scene, left(this.course!.left!, this.tooHigh!));
      case 'steps':
        return this.tell(scene, oddSteps(trouble.steps, this.rateOf(trouble.steps, scene.event)));
    }
  }

  private async examineBad(scene: Scene): Promise<Verdict> {
    const { event, recipe } = scene;
    const untouched = event.skippedSegments === null;
    this.inRow++;
    const finding = await this.find(scene);
    const spoilt = finding.spoilt ? finding.records : [];
    const bad = { records: spoilt, untouched, inRow: this.inRow, canRollBack: scene.canRollBack };
    const { action, message } = climb(bad, recipe.guard, this.answered);
    if (action !== 'stop') this.answered++;
    if (action !== 'leave-out') this.inRow = 0;
    return {
      diagnosis: this.eventOf(finding, scene, { quarantined: action === 'quarantine' }),
      ...{ action, message },
      records: action === 'quarantine' ? spoilt : [],
      budgetLeft: this.budgetLeft,
    };
  }

  private async find(scene: Scene): Promise<Finding & { readonly spoilt: boolean }> {
    const { event, numbers, recipe, precision, ranks } = scene;
    const circumstances = {
      recipe,
      compute: precision.compute,
      trend: this.course!.trend(),
      ...{ learningRate: event.learningRate, loss: event.loss, norm: event.gradientNorm },
      lossScale: event.lossScale,
      ownNonFinite: ofRanks(numbers.byRank, 'nonFinite'),
    };
    try {
      const evidence = await gatherEvidence(scene);
      const finding = classify(evidence, circumstances);
      const spoilt = some(evidence) && evidence.repeats && !OF_THE_RUN.includes(finding.cause);
      return {
        ...finding,
        spoilt,
        ...(spoilt && { records: evidence.bad.map(({ record }) => record) }),
      };
    } catch (error) {
      // Ranks that fail one by one are told by their errors.
      if (ranks.size > 1) throw error;
      const message = error instanceof Error ? error.message : String(error);
      return {
        ...{ ...NOTHING_MORE, cause: 'unknown', confidence: 0.1 },
        ...{ message: 'the update could not be run again', evidence: [message], spoilt: false },
      };
    }
  }

  private examineRise(scene: Scene): Verdict {
    const { event, recipe } = scene;
    const trend = this.course!.trend();
    const { learningRate } = event;
    const finding = risen({ trend, recipe, learningRate, step: this.steps.usual });
    if (finding === null || !this.once(`rise ${finding.cause}`)) return this.goOn(null);
    const diagnosis = this.eventOf({ ...NOTHING_MORE, ...finding }, scene);
    if (recipe.guard.onBadUpdate !== 'roll-back' || !scene.canRollBack || this.budgetLeft === 0) {
      return this.goOn(diagnosis);
    }
    const bad = { records: [], untouched: false, inRow: 0, canRollBack: true };
    const step = climb(bad, recipe.guard, this.answered);
    this.answered++;
    this.told.delete(`rise ${finding.cause}`);
    return { diagnosis, ...step, records: [], budgetLeft: this.budgetLeft };
  }

  private tell(
    scene: Scene,
    finding: Pick<Finding, 'cause' | 'confidence' | 'message'> & Partial<Finding>,
  ): Verdict {
    const records = finding.cause === 'no-supervision' ? scene.microBatches.flat().slice(0, 3) : [];
    return this.goOn(
      this.eventOf({ ...NOTHING_MORE, ...finding, records: records.map(guarded) }, scene),
    );
  }

  private goOn(diagnosis: DiagnosisEvent | null): Verdict {
    return { diagnosis, action: 'go-on', message: '', records: [], budgetLeft: this.budgetLeft };
  }

  private rateOf({ tensor }: { readonly tensor: string }, { learningRate }: UpdateEvent): number {
    return learningRate * groupFactor(this.recipe, tensor);
  }

  /** Whether the rate has been too high so far. */
  private get tooHigh(): HighRate | null {
    const { recipe, hiddenSize, highest } = this;
    if (hiddenSize === undefined) return null;
    return tooHighRate(recipe, hiddenSize, highest / recipe.optimizer.learningRate);
  }

  private once(what: string): boolean {
    if (this.told.has(what)) return false;
    this.told.add(what);
    return true;
  }

  explain(error: unknown, update: number): DiagnosisEvent | null {
    return explainError(error, update);
  }

  private eventOf(
    finding: Finding,
    { event }: Pick<Scene, 'event'>,
    known: { readonly quarantined?: boolean } = {},
  ): DiagnosisEvent {
    const { update, counts } = event;
    return this.event(finding, update, { sequences: counts.sequences, ...known });
  }

  private event(
    { cause, confidence, message, evidence, records, module, rank }: Finding,
    update: number,
    facts: Pick<AdviceFacts, 'sequences' | 'quarantined'>,
  ): DiagnosisEvent {
    return {
      ...{ type: 'diagnosis', update, cause, confidence, message, evidence },
      fix: advice(cause, { recipe: this.recipe, hiddenSize: this.hiddenSize, ...facts }),
      ...{ records, module, rank, page: pageOf(cause) },
    };
  }

  private get budgetLeft(): number {
    return Math.max(0, this.recipe.guard.budget - this.answered);
  }

  counters(): GuardCounters {
    return { answered: this.answered };
  }

  restore({ answered }: GuardCounters): void {
    this.answered = answered;
  }
}
