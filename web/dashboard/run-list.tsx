/** All runs as cards, newest first. */
import type { RunCard, ShownState } from './api.js';
import { dateText, numberText } from './text.js';

export function RunList({
  runs = [],
  chosen,
}: {
  runs: readonly RunCard[] | undefined;
  chosen: string | undefined;
}) {
  return (
    <nav class="runs" aria-label="Runs">
      <ul>
        {runs.map((run) => (
          <li key={run.id}>
            <a
              href={`#${encodeURIComponent(run.id)}`}
              {...(run.id === chosen && { 'aria-current': 'page' as const })}
            >
              <span class="name">{run.id}</span>
              <span class="facts">
                <State state={run.state} /> {run.updates.toLocaleString('en')}
                {run.planned !== null && ` of ${run.planned.toLocaleString('en')}`}
              </span>
              <span class="facts">
                {dateText(run.created)}
                {run.loss !== null && ' · loss '}
                {typeof run.loss === 'number' ? numberText(run.loss) : <b>{run.loss}</b>}
              </span>
              <Sparkline values={run.losses} />
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

export function State({ state }: { state: ShownState }) {
  return <span class={`state ${state}`}>{state}</span>;
}

/** Decoration beside the loss, which is told in words. */
function Sparkline({ values }: { values: readonly (number | null)[] }) {
  const finite = values.filter((value) => value !== null);
  if (finite.length < 2) return null;
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const y = (value: number): string => (22 - (20 * (value - low)) / (high - low || 1)).toFixed(1);
  // A gap begins a new piece.
  const path = values.map((value, i) => {
    if (value === null) return '';
    const x = ((100 * i) / (values.length - 1)).toFixed(1);
    return `${i === 0 || values[i - 1] === null ? 'M' : 'L'}${x} ${y(value)}`;
  });
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      <path d={path.join('')} />
    </svg>
  );
}
