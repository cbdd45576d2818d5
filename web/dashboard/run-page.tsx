/** One run: how it stands, its curves, answers, and what went wrong. */
import { useEffect, useState } from 'preact/hooks';

import { Answers } from './answers.js';
import type { RunCard, RunView } from './api.js';
import { Charts } from './charts.js';
import { Controls } from './controls.js';
import { useRun } from './live.js';
import { Recipe } from './recipe.js';
import { BadRecords, Checkpoints, Findings, Statements, Warnings } from './records.js';
import { State } from './run-list.js';
import { Scores } from './scores.js';
import { dateText, formatDuration } from './text.js';
import { Troubles } from './troubles.js';

export function RunPage({ id, all }: { id: string; all: readonly RunCard[] }) {
  const { value: run, error } = useRun(id);
  const [beside, setBeside] = useState<readonly string[]>([]);
  useEffect(() => {
    document.title = run === undefined ? 'Patina: runs' : `${run.state} ${run.updates} · ${run.id}`;
  }, [run]);
  if (run === undefined) return <p class="quiet">{error ?? 'Reading …'}</p>;
  const others = all.filter((each) => each.id !== id);
  return (
    <>
      {error !== undefined && (
        <p class="banner" role="alert">
          {error} What is shown is from before.
        </p>
      )}
      <Heading run={run} />
      <Troubles run={run} />
      <Findings run={run} />
      {others.length > 0 && <Beside others={others} chosen={beside} choose={setBeside} />}
      <Charts run={run} beside={beside} />
      <Scores run={run} beside={beside} />
      <Answers run={run} />
      <BadRecords run={run} />
      <Warnings run={run} />
      <Checkpoints run={run} />
      <Statements run={run} />
      <Recipe run={run} beside={beside} />
    </>
  );
}

function Heading({ run }: { run: RunView }) {
  const { id, state, updates, planned, remaining, recipe, created } = run;
  return (
    <section class="heading" aria-label="State">
      <div class="title">
        <h2>{id}</h2>
        <State state={state} />
        <Controls run={run} />
      </div>
      {planned !== null && (
        <progress value={updates} max={planned} aria-label="Updates done">
          {updates} of {planned}
        </progress>
      )}
      <p class="facts" role="status">
        {updates.toLocaleString('en')}
        {planned !== null && ` of ${planned.toLocaleString('en')}`} updates
        {remaining !== null && ` · ${formatDuration(remaining)} left`} · recipe {recipe} · begun{' '}
        {dateText(created)}
      </p>
    </section>
  );
}

function Beside({
  others,
  chosen,
  choose,
}: {
  others: readonly RunCard[];
  chosen: readonly string[];
  choose: (ids: readonly string[]) => void;
}) {
  return (
    <details class="beside">
      <summary>Compare with other runs{chosen.length > 0 && `: ${chosen.length}`}</summary>
      <ul>
        {others.map(({ id }) => (
          <li key={id}>
            <label>
              <input
                type="checkbox"
                checked={chosen.includes(id)}
                onChange={({ currentTarget }) => {
                  const rest = chosen.filter((each) => each !== id);
                  choose(currentTarget.checked ? [...rest, id] : rest);
                }}
              />{' '}
              {id}
            </label>
          </li>
        ))}
      </ul>
    </details>
  );
}
