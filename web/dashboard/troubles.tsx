/** What went wrong, with its cause and what to do: first of all that a page of a run has to show. */
import { pictureAddress, type RunView } from './api.js';
import { percentText } from './text.js';

interface Diagnosis {
  readonly update: number;
  readonly cause: string;
  readonly confidence?: number | string;
  readonly message: string;
  readonly evidence?: readonly unknown[];
  readonly fix?: string;
  readonly module?: string | null;
  readonly records?: readonly {
    readonly source?: string;
    readonly line?: number;
    readonly id?: string | number | null;
    readonly images?: readonly string[];
  }[];
}

interface Recovery {
  readonly update: number;
  readonly message?: string;
  readonly action?: string;
}

export function Troubles({ run }: { run: RunView }) {
  const diagnoses = (run.diagnoses as unknown as Diagnosis[]).slice(-5).reverse();
  const recoveries = (run.recoveries as unknown as Recovery[]).slice(-10);
  const ended = run.state === 'crashed' || run.state === 'failed';
  if (!ended && diagnoses.length === 0 && recoveries.length === 0) return null;
  return (
    <section class="troubles" aria-label="What went wrong">
      {run.state === 'crashed' && (
        <article class="trouble">
          <h3>The run crashed</h3>
          <p>
            It said that it was running, but no process is. Its checkpoints are whole: resume it,
            here or with <code>patina train --resume {run.id}</code>.
          </p>
        </article>
      )}
      {run.state === 'failed' && (
        <article class="trouble">
          <h3>The run failed</h3>
          <p>{run.reason ?? 'It did not say why.'}</p>
        </article>
      )}
      {diagnoses.map((each, i) => (
        <DiagnosisCard key={i} run={run} {...each} />
      ))}
      {recoveries.length > 0 && (
        <ul class="recoveries">
          {recoveries.map(({ update, message, action }, i) => (
            <li key={i}>
              Update {update}: {message ?? action}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function DiagnosisCard({ run, ...found }: Diagnosis & { run: RunView }) {
  const { update, cause, confidence, message, evidence = [], fix, module, records = [] } = found;
  return (
    <article class="trouble">
      <h3>
        Update {update}: {cause}
        {confidence !== undefined && (
          <small>
            {' '}
            {typeof confidence === 'number' ? percentText(confidence) : confidence} sure
          </small>
        )}
      </h3>
      <p>{message}</p>
      {module != null && (
        <p>
          Module <code>{module}</code>
        </p>
      )}
      {fix !== undefined && (
        <p class="fix">
          What to do: <b>{fix}</b>
        </p>
      )}
      {records.map(({ source, line, id, images = [] }, i) => (
        <p key={i} class="record">
          {images.map((path) => (
            <img
              key={path}
              src={pictureAddress(run.id, path)}
              alt={`picture of the record: ${path}`}
              loading="lazy"
            />
          ))}
          <code>
            {source}:{line}
          </code>{' '}
          {id != null && `(${id})`}
        </p>
      ))}
      {evidence.length > 0 && (
        <details>
          <summary>Evidence</summary>
          <ul>
            {evidence.map((each, i) => (
              <li key={i}>{typeof each === 'string' ? each : JSON.stringify(each)}</li>
            ))}
          </ul>
        </details>
      )}
    </article>
  );
}
