/** Shows a training run as it goes, and ends it in order. */
import type { HubEvent } from '../base/hub/resolve.js';
import { jsonLine } from '../base/json-text.js';
import { SaveRequests, type EndEvent, type TrainEvent } from '../train/index.js';
import { LoadProgress } from './load-progress.js';
import { INTERRUPTED, type Session } from './session.js';
import { openTrainView, type ViewOptions } from './train-view/train-view.js';

export interface WatchOptions extends ViewOptions {
  session: Session;
  /** Print events as lines of JSON to standard output, and nothing else. @default false */
  json?: boolean;
  onEvent?: ((event: TrainEvent) => void) | undefined;
}

/**
 * Runs it to its end. What ends it from outside, such as Ctrl-C, lets it finish its update and save.
 *
 * @returns the end of the run; `undefined` where it was stopped before it began. Sets the exit code where it was interrupted.
 * @throws what the run throws; EnvironmentError `E_DISK_FULL` where the disk under an output is full, after a clean save
 */
export async function watchTraining(
  open: (
    signal: AbortSignal,
    onDownload: (event: HubEvent) => void,
    savesWished: () => number,
  ) => AsyncIterable<TrainEvent> | Promise<AsyncIterable<TrainEvent>>,
  { session, json = false, onEvent, ...options }: WatchOptions,
): Promise<EndEvent | undefined> {
  const { columns } = process.stderr;
  const view = openTrainView(session.stderr, { ...(columns > 0 && { columns }), ...options });
  const progress = new LoadProgress(session.stderr);
  const say = (line: string): void => {
    progress.end();
    if (!json) view.say(line);
  };
  using saves = new SaveRequests();
  const end = await session.inOrder(async (signal) => {
    signal.addEventListener('abort', () => {
      const { message } = signal.reason as Error;
      say(`${message}: finishing the update and saving; Ctrl-C again leaves at once`);
    });
    let end: EndEvent | undefined;
    try {
      const onDownload = (event: HubEvent): void => progress.download(event);
      for await (const event of await open(signal, onDownload, () => saves.count)) {
        progress.end();
        if (json) session.stdout.write(jsonLine(event));
        else view.show(event);
        onEvent?.(event);
        if (event.type === 'end') end = event;
      }
    } catch (error) {
      if (!signal.aborted || error !== signal.reason) throw error;
      say('stopped before the first update: nothing was trained');
    } finally {
      progress.end();
    }
    return end;
  });
  if (end?.reason === 'interrupted') session.exitCode = INTERRUPTED; // perhaps on another rank
  if (end?.reason === 'finished' || end?.reason === 'early-stopped') session.exitCode = 0;
  return end;
}
