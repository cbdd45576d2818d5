/** Shows a training run as it goes, and ends it in order on Ctrl-C. */
import type { HubEvent } from '../base/hub/resolve.js';
import type { EndEvent, TrainEvent } from '../train/index.js';
import { INTERRUPTED } from './chat-loop.js';
import type { Session } from './session.js';
import { jsonLine } from './json-text.js';
import { LoadProgress } from './load-progress.js';
import { openTrainView, type ViewOptions } from './train-view/train-view.js';

export interface WatchOptions extends ViewOptions {
  session: Session;
  /** Print events as lines of JSON to standard output, and nothing else. @default false */
  json?: boolean;
}

/**
 * Runs it to its end. The first Ctrl-C (or SIGTERM) lets it finish its update and save, the second one ends the process.
 *
 * @returns the end of the run; `undefined` where it was stopped before it began. Sets the exit code where it was interrupted.
 */
export async function watchTraining(
  open: (
    signal: AbortSignal,
    onDownload: (event: HubEvent) => void,
  ) => AsyncIterable<TrainEvent> | Promise<AsyncIterable<TrainEvent>>,
  { session, json = false, ...options }: WatchOptions,
): Promise<EndEvent | undefined> {
  const { columns } = process.stderr;
  const view = openTrainView(session.stderr, { ...(columns > 0 && { columns }), ...options });
  const progress = new LoadProgress(session.stderr);
  const stop = new AbortController();
  const unlisten = (): void => {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  };
  const interrupt = (): void => {
    unlisten();
    progress.end();
    if (!json) view.say('finishing the update and saving; Ctrl-C again leaves at once');
    session.exitCode = INTERRUPTED;
    stop.abort();
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  let end: EndEvent | undefined;
  try {
    const onDownload = (event: HubEvent): void => progress.download(event);
    for await (const event of await open(stop.signal, onDownload)) {
      progress.end();
      if (json) session.stdout.write(jsonLine(event));
      else view.show(event);
      if (event.type === 'end') end = event;
    }
  } catch (error) {
    if (!stop.signal.aborted || error !== stop.signal.reason) throw error;
    if (!json) view.say('stopped before the first update: nothing was trained');
  } finally {
    progress.end();
    unlisten();
  }
  if (end?.reason === 'finished' || end?.reason === 'early-stopped') session.exitCode = 0;
  return end;
}
