/** What else a run told: records left out, warnings, checkpoints, what was chosen at the start. */
import type { RunView } from './api.js';
import { DataRecord } from './record.js';
import { formatBytes, formatDuration } from './text.js';

export function BadRecords({ run: { id, badRecords } }: { run: RunView }) {
  const { count, last } = badRecords;
  if (count === 0) return null;
  return (
    <details open={count < 10}>
      <summary>Records left out: {count.toLocaleString('en')}</summary>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Update</th>
              <th scope="col">Where</th>
              <th scope="col">Why</th>
            </tr>
          </thead>
          <tbody>
            {last.toReversed().map(({ update, record: { file, reason, code, ...place } }, i) => (
              <tr key={i}>
                <td>{update}</td>
                <td>
                  <DataRecord run={id} source={file} {...place} />
                </td>
                <td>
                  {reason} <code>{code}</code>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** What a look at the recipe and the first records has found, before the first update. */
export function Findings({ run: { findings } }: { run: RunView }) {
  if (findings.length === 0) return null;
  return (
    <details open={findings.length < 10}>
      <summary>Found before the first update: {findings.length}</summary>
      <ul class="findings">
        {findings.map(({ cause, severity, message, fix, source, line, count }, i) => (
          <li key={i}>
            <b class={severity}>{severity}</b> {message} <code>{cause}</code>
            {count > 1 && ` (${count} times)`}
            {source !== null && !message.startsWith(source) && (
              <>
                {' '}
                in{' '}
                <code>
                  {source}
                  {line !== null && `:${line}`}
                </code>
              </>
            )}
            <br />
            What to do: <b>{fix}</b>
          </li>
        ))}
      </ul>
    </details>
  );
}

export function Warnings({ run: { warnings } }: { run: RunView }) {
  const kinds = new Map(warnings.map((each) => [String(each['code']), String(each['message'])]));
  if (kinds.size === 0) return null;
  return (
    <details open>
      <summary>Warnings: {kinds.size}</summary>
      <ul>
        {[...kinds].map(([code, message]) => (
          <li key={code}>
            {message} <code>{code}</code>
          </li>
        ))}
      </ul>
    </details>
  );
}

export function Checkpoints({ run: { checkpoints } }: { run: RunView }) {
  if (checkpoints.length === 0) return null;
  return (
    <details>
      <summary>Checkpoints: the last at update {String(checkpoints.at(-1)!['update'])}</summary>
      <ul>
        {checkpoints.toReversed().map(({ update, path, bytes, seconds }, i) => (
          <li key={i}>
            Update {String(update)}: <code>{String(path)}</code> ({formatBytes(Number(bytes))} in{' '}
            {formatDuration(Number(seconds))})
          </li>
        ))}
      </ul>
    </details>
  );
}

/** What was chosen before the first update, and what trains. */
export function Statements({ run: { start } }: { run: RunView }) {
  if (start === null) return null;
  const statements = start['statements'] as readonly string[];
  const table = start['table'] as readonly Record<string, unknown>[];
  return (
    <details>
      <summary>How it was set up</summary>
      <ul>
        {statements.map((each, i) => (
          <li key={i}>{each}</li>
        ))}
      </ul>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              {TABLE.map(([, title]) => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {table.map((row, i) => (
              <tr key={i}>
                {TABLE.map(([key]) => (
                  <td key={key}>{cell(row[key])}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

const TABLE = [
  ['part', 'Part'],
  ['kind', 'Trains'],
  ['tensors', 'Tensors'],
  ['parameters', 'Parameters'],
  ['dtype', 'Type'],
  ['learningRate', 'Learning rate'],
  ['weightDecay', 'Weight decay'],
] as const;

function cell(value: unknown): string {
  if (typeof value === 'number')
    return value.toLocaleString('en', { maximumSignificantDigits: 12 });
  return typeof value === 'string' ? value : '–';
}
