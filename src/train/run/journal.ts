/** Keeps a run's events in its folder: curves in `metrics.jsonl` and for TensorBoard, all the rest in `events.jsonl`. */

import type { RunFolder } from './run-folder.js';
import { TensorBoardWriter } from './tensorboard.js';
import type { TrainEvent } from '../events.js';

export interface JournalOptions {
  readonly tensorboard: boolean;
  /** The update after which a resumed run goes on. */
  readonly resumedAfter?: number | undefined;
}

export class Journal {
  private readonly board: TensorBoardWriter | undefined;

  /** @throws EnvironmentError `E_DISK_FULL`, `E_UNWRITABLE`, here and at each event. */
  constructor(
    private readonly run: RunFolder,
    { tensorboard, resumedAfter }: JournalOptions,
  ) {
    if (tensorboard) this.board = new TensorBoardWriter(run.tensorboard, { resumedAfter });
  }

  keep(event: TrainEvent): void {
    if (event.type === 'update') {
      const { memory, counts } = event;
      this.run.metrics.write({
        update: event.update,
        epoch: event.epoch,
        loss: event.loss,
        gradientNorm: event.gradientNorm,
        learningRate: event.learningRate,
        seconds: event.seconds,
        tokensPerSecond: event.tokensPerSecond,
        samplesPerSecond: event.samplesPerSecond,
        waiting: event.waiting,
        skipped: event.skipped,
        lossScale: event.lossScale,
        ...(event.filled !== undefined && { filled: event.filled }),
        ...(event.step !== undefined && { step: event.step }),
        tokens: counts.tokens,
        imageTokens: counts.imageTokens,
        supervised: counts.supervised,
        samples: counts.sequences,
        peakBytes: memory.peakBytes,
        ...(event.ranks !== undefined && { ranks: event.ranks }),
      });
      this.board?.scalars(event.update, {
        ...(event.loss === null ? {} : { 'train/loss': event.loss }),
        'train/gradient norm': event.gradientNorm,
        'train/learning rate': event.learningRate,
        'speed/tokens per second': event.tokensPerSecond,
        'speed/samples per second': event.samplesPerSecond,
        'speed/waiting for data': event.waiting,
        ...(event.filled !== undefined && { 'speed/share of batchTokens filled': event.filled }),
        'memory/peak GiB': memory.peakBytes / 2 ** 30,
        ...(event.lossScale === null ? {} : { 'train/loss scale': event.lossScale }),
        ...(event.step && { [`train/step size, group ${event.step.group}`]: event.step.ratio }),
      });
      return;
    }
    this.run.events.write({ time: new Date().toISOString(), ...event });
    if (event.type === 'validation') {
      this.board?.scalars(event.update, { 'validation/loss': event.loss });
    } else if (event.type === 'score') {
      this.board?.scalars(event.update, { [`tasks/${event.name}`]: event.score });
    } else if (event.type === 'probes') {
      event.answers.forEach(({ question, images, answer }, i) => {
        const asked = [question, ...images].join(' · ');
        this.board?.text(event.update, `probes/${i + 1}`, `**${asked}**\n\n${answer}`);
      });
    }
  }

  close(): void {
    this.board?.close();
  }
}
