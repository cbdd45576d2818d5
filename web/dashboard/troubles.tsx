/** What went wrong, with its cause and what to do: first of all that a page of a run has to show. */
import type { RunView } from './api.js';
import { DataRecord } from './record.js';

/** Causes that are shown at once. */
const CAUSES = 5;
const RECOVERIES = 10;
/** Records of a cause that are shown at once. */
const OPEN = 3;

export function Troubles({ run }: { run: RunView }) {
  const { id, state, reason, diagnoses } = run;
  const ended = state === 'crashed' || state === 'failed';
  if (!ended && diagnoses.length === 0 && run.recoveries.length === 0) return null;
  // What came last is looked for first.
  const causes = diagnoses.toSorted((a, b) => b.updates.at(-1)! - a.updates.at(-1)!);
  const recoveries = new Map<string, number[]>();
  for (const { message, update } of run.recoveries) {
    recoveries.set(message, [...(recoveries.get(message) ?? []), update]);
  }
  return (
    <section class="troubles" aria-label="What went wrong">
      {state === 'crashed' && (
        <article class="trouble">
          <h3>The run crashed</h3>
          <p>
            It said that it was running, but no process is. Its checkpoints are whole: resume it,
            here or with <code>patina train --resume {id}</code>.
          </p>
        </article>
      )}
      {state === 'failed' && (
        <article class="trouble">
          <h3>The run failed</h3>
          <p>{reason ?? 'It did not say why.'}</p>
        </article>
      )}
      {causes.slice(0, CAUSES).map((each) => (
        <Cause key={each.diagnosis.cause} id={id} {...each} />
      ))}
      {recoveries.size > 0 && (
        <ul class="recoveries" aria-label="What the run did about it">
          {[...recoveries].slice(-RECOVERIES).map(([message, updates]) => (
            <li key={message}>
              {timesText(updates)}: {message}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Cause({ id, diagnosis, updates }: RunView['diagnoses'][number] & { id: string }) {
  const { cause, confidence, message, evidence, fix, module, rank, records, page } = diagnosis;
  return (
    <article class="trouble">
      <h3>
        {timesText(updates)}: {cause} <small>{Math.round(100 * confidence)} % sure</small>
      </h3>
      <p>{message}</p>
      {module !== null && (
        <p>
          Module <code>{module}</code>
        </p>
      )}
      {rank !== null && <p>Rank {rank}</p>}
      <p class="fix">
        What to do: <b>{fix}</b> (<code>{page}</code>)
      </p>
      {records.map((place, i) => (
        <DataRecord key={`${place.source} ${place.record}`} run={id} {...place} open={i < OPEN} />
      ))}
      {evidence.length > 0 && (
        <details>
          <summary>Evidence</summary>
          <ul>
            {evidence.map((each, i) => (
              <li key={i}>{each}</li>
            ))}
          </ul>
        </details>
      )}
    </article>
  );
}

/** Updates that are named one by one. */
const NAMED = 6;

function timesText(updates: readonly number[]): string {
  if (updates.length === 1) return `Update ${updates[0]!}`;
  const first = updates.slice(0, NAMED).join(', ');
  const rest = updates.length - NAMED;
  return `Updates ${first}${rest > 0 ? ` and ${rest} more, the last ${updates.at(-1)!}` : ''}`;
}
