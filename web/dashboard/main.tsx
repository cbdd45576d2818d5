/** The page of runs: a list of them beside the one that is looked at, which the address names. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import 'uplot/dist/uPlot.min.css';

import { useRuns } from './live.js';
import { RunList } from './run-list.js';
import { RunPage } from './run-page.js';
import { ThemeSwitch } from './theme.js';

function Page() {
  const runs = useRuns();
  const [chosen, setChosen] = useState(idInAddress());
  useEffect(() => {
    const follow = (): void => setChosen(idInAddress());
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  const id = chosen ?? runs.value?.[0]?.id;
  return (
    <>
      <a
        class="skip"
        href="#run"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById('run')?.focus();
        }}
      >
        Skip to the run
      </a>
      <header class="top">
        <h1>Patina</h1>
        <ThemeSwitch />
      </header>
      {runs.error !== undefined && (
        <p class="banner" role="alert">
          {runs.error} What is shown may be old.
        </p>
      )}
      <div class="columns">
        <RunList runs={runs.value} chosen={id} />
        <main id="run" tabIndex={-1}>
          {id === undefined ? (
            <Nothing ready={runs.value !== undefined} />
          ) : (
            <RunPage key={id} id={id} all={runs.value ?? []} />
          )}
        </main>
      </div>
    </>
  );
}

function Nothing({ ready }: { ready: boolean }) {
  if (!ready) return <p class="quiet">Reading runs …</p>;
  return (
    <p class="quiet">
      There is no run yet. Begin one: <code>patina train quickstart</code>
    </p>
  );
}

function idInAddress(): string | undefined {
  const name = decodeURIComponent(location.hash.slice(1));
  return name === '' ? undefined : name;
}

render(<Page />, document.getElementById('page')!);
