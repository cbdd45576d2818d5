/**
 * What a run looks at between updates: the loss on validation data, scores of tasks and answers to probe questions; and whether the one that
 * decides still gets better.
 */

import { basename } from 'node:path';
import type { Recipe } from '../../config/index.js';
import type { Agree } from '../../generate/index.js';
import type { Batch, Residency } from '../../models/index.js';
import type { Peers } from '../../parallel/index.js';
import type { Holding } from '../../torch/index.js';
import type { TrainerCounters } from '../checkpoint/trainer-state.js';
import type { ProbesEvent, ScoreEvent, ValidationEvent } from '../events.js';
import type { RunTask } from '../prepare/open-tasks.js';
import type { ParameterStore } from '../step/parameter-store.js';
import type { Agreement } from './agreement.js';
import { dealing, placedBatches } from './dealt-batches.js';
import type { RunMemory } from './run-memory.js';
import type { RunPlace } from './saving.js';
import type { Measured, Tally } from './tally.js';
import { answersTo, keepAnswers, scoreOf } from './tasks.js';
import type { TrainerParts } from './trainer.js';
import { EarlyStopping, validationLoss } from './validation.js';

export type Question = Recipe['probes']['questions'][number];

/** Answers a question with the model as it is now; all ranks answer it together. */
export type Answer = (question: Question, options: AnswerOptions) => Promise<string>;

export interface AnswerOptions {
  readonly maxNewTokens: number;
  readonly signal: AbortSignal | undefined;
  /** Brings the parameters, which may be shared out. */
  readonly residency: Residency;
  /** What the ranks do each for themselves they do in here. */
  readonly agree: Agree;
}

interface Beside {
  readonly tally: Tally;
  readonly memory: RunMemory;
  /** Another one after a run went back to a snapshot. */
  readonly store: () => ParameterStore;
}

type Looked = Pick<TrainerCounters, 'validation' | 'scores' | 'owed'>;

export class Looks {
  /** Nothing has got better for as long as the recipe has patience. */
  areExhausted = false;
  private readonly losses: EarlyStopping;
  /** The same of scores, by task. */
  private readonly scores: ReadonlyMap<string, EarlyStopping>;
  /** Tasks that are still to be asked of the model as it is. */
  private owed: readonly RunTask[] = [];
  /** Ranks as they meet for answers to tasks. */
  private readonly answering: Peers;

  constructor(
    private readonly parts: TrainerParts,
    private readonly beside: Beside,
  ) {
    this.losses = this.stoppingBy(undefined);
    this.scores = new Map(this.tasks.map(({ name }) => [name, this.stoppingBy(name)]));
    this.answering = parts.ranks.beside('tasks');
  }

  private get tasks(): readonly RunTask[] {
    return this.parts.tasks?.list ?? [];
  }

  /** Of a task, or of the loss; one of them decides. */
  private stoppingBy(name: string | undefined): EarlyStopping {
    const { best, patience, minimumImprovement } = this.parts.recipe.validation ?? {};
    return new EarlyStopping(
      name === best ? patience : undefined,
      minimumImprovement,
      name === undefined ? 'lowest' : 'highest',
    );
  }

  /** All tasks are to be asked of the model as it is. */
  oweTasks(): void {
    this.owed = this.tasks;
  }

  get owes(): boolean {
    return this.owed.length > 0;
  }

  /** For a checkpoint. */
  state(): Looked {
    return {
      validation: this.losses.state(),
      scores: Object.fromEntries([...this.scores].map(([name, each]) => [name, each.state()])),
      owed: this.owed.map(({ name }) => name),
    };
  }

  restore({ validation, scores = {}, owed = [] }: Looked): void {
    this.losses.restore(validation);
    for (const [name, state] of Object.entries(scores)) this.scores.get(name)?.restore(state);
    this.owed = this.tasks.filter(({ name }) => owed.includes(name));
  }

  /** Those of the scores whose tasks this run asks. */
  stillAsked(scores: Measured['scores'] = {}): Record<string, number> {
    return Object.fromEntries(Object.entries(scores).filter(([name]) => this.scores.has(name)));
  }

  /** @param update updates done */
  async validate(update: number, agreement: Agreement): Promise<ValidationEvent> {
    const { recipe, model, device, ranks } = this.parts;
    const begun = performance.now();
    const { loss, supervised } = await validationLoss(model, this.validationBatches(agreement), {
      device: device.device,
      chunk: recipe.memory.lossChunk,
      residency: this.beside.store(),
      ranks,
    });
    this.beside.tally.addValidation(update, { loss, supervised });
    const best = this.losses.add(loss);
    this.areExhausted ||= this.losses.exhausted;
    const seconds = (performance.now() - begun) / 1000;
    return { type: 'validation', update, loss, supervised, best, seconds };
  }

  private async *validationBatches(
    agreement: Agreement,
  ): AsyncGenerator<Holding<(Batch | null)[]>, void> {
    for await (const part of this.parts.data.validation(dealing(this.parts, agreement))) {
      this.beside.memory.seeValidation(part);
      yield placedBatches(this.parts, part);
    }
  }

  /** Asks the tasks that are due. Each one that is answered is no longer owed, also where the run is interrupted at the next. */
  async *askTasks(
    update: number,
    place: RunPlace,
    agreement: Agreement,
  ): AsyncGenerator<ScoreEvent, void> {
    const { tasks, ranks, recipe, sharding } = this.parts;
    if (tasks === undefined || !this.owes) return;
    const store = this.beside.store();
    await store.settle();
    const isShared = sharding != null && recipe.parallel.zero === 3;
    const residency = isShared ? store : null;
    const { device } = this.parts.device;
    const options = { device, agreement, peers: this.answering, residency };
    while (this.owes && agreement.signal?.aborted !== true) {
      const [task, ...rest] = this.owed as [RunTask, ...RunTask[]];
      const begun = performance.now();
      const { result, peakBytes } = await this.beside.memory.apart(() =>
        answersTo(task, tasks.ask, options),
      );
      const { texts, rows } = result;
      const kept = { texts, update, run: place.path, model: basename(place.path) };
      const answers = await ranks.first('answers', () => keepAnswers(task, kept));
      const score = await scoreOf(task, texts);
      const stopping = this.scores.get(task.name)!;
      // There is no checkpoint of the model before its first update that could be the best.
      const best = update > 0 && stopping.add(score.score);
      this.areExhausted ||= stopping.exhausted;
      const seconds = (performance.now() - begun) / 1000;
      const { name, by: harness } = task;
      const event: ScoreEvent = {
        ...{ type: 'score', update, name, task: task.task.name, harness, ...score },
        ...{ best, answers, rows, seconds, peakBytes },
      };
      this.beside.tally.addScore(event);
      this.owed = rest;
      yield event;
    }
  }

  async *probe(update: number, agreement: Agreement): AsyncGenerator<ProbesEvent, void> {
    const { answer, recipe } = this.parts;
    const { questions, maxNewTokens } = recipe.probes;
    const { agree, signal } = agreement;
    if (answer === undefined || questions.length === 0) return;
    const residency = this.beside.store();
    const answers = [];
    for (const question of questions) {
      await agreement.settle();
      signal?.throwIfAborted();
      const text = await answer(question, { maxNewTokens, signal, residency, agree });
      answers.push({ question: question.text, images: question.images, answer: text });
    }
    this.beside.memory.seeProbes();
    yield { type: 'probes', update, answers };
  }
}
