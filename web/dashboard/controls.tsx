/** Stop, save and resume: what Ctrl-C and `--resume` do. */
import { useState } from 'preact/hooks';

import { act, type RunView } from './api.js';

const SAID = {
  stop: 'Told to stop: it finishes the update and saves.',
  save: 'A checkpoint follows the update that is under way.',
  resume: 'It goes on; the first numbers take a while.',
} as const;

type Action = keyof typeof SAID;

export function Controls({ run }: { run: RunView }) {
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState<{ text: string; wrong: boolean }>();
  const { id, state, updates, planned } = run;
  const running = state === 'running';
  const canGoOn = !running && (planned === null || updates < planned || state !== 'finished');
  const press = async (action: Action): Promise<void> => {
    setBusy(true);
    try {
      await act(id, action);
      setSaid({ text: SAID[action], wrong: false });
    } catch (error) {
      setSaid({ text: (error as Error).message, wrong: true });
    }
    setBusy(false);
  };
  const button = (action: Action, label: string) => (
    <button type="button" disabled={busy} onClick={() => void press(action)}>
      {label}
    </button>
  );
  return (
    <span class="controls">
      {running && button('save', 'Save now')}
      {running && button('stop', 'Stop')}
      {canGoOn && button('resume', 'Resume')}
      <span
        role={said?.wrong === true ? 'alert' : 'status'}
        class={said?.wrong === true ? 'wrong' : ''}
      >
        {said?.text}
      </span>
    </span>
  );
}
