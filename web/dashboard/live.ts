/** What the page shows, kept up to date while the server tells of changes. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';

import {
  type Curves,
  type CurvesAsked,
  eventsAddress,
  fetchCurves,
  fetchRun,
  fetchRuns,
  type RunCard,
  type RunView,
} from './api.js';

export interface Live<T> {
  readonly value: T | undefined;
  /** Why it is not up to date. */
  readonly error: string | undefined;
}

/** Milliseconds between looks at the list of runs. */
const LIST_INTERVAL = 5000;

export function useRuns(): Live<readonly RunCard[]> {
  const [live, setLive] = useState<Live<readonly RunCard[]>>(NOTHING);
  useEffect(() => {
    let ended = false;
    let timer: number | undefined;
    const look = async (): Promise<void> => {
      try {
        const { runs } = await fetchRuns();
        if (!ended) setLive({ value: runs, error: undefined });
      } catch (error) {
        if (!ended) setLive((before) => ({ ...before, error: textOf(error) }));
      }
      if (!ended) timer = window.setTimeout(() => void look(), LIST_INTERVAL);
    };
    void look();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, []);
  return live;
}

/** A run, read again whenever the server tells of a change. */
export function useRun(id: string | undefined): Live<RunView> {
  const [live, setLive] = useState<Live<RunView>>(NOTHING);
  useEffect(() => {
    setLive(NOTHING);
    if (id === undefined) return;
    const read = oneAtATime(async () => {
      try {
        const value = await fetchRun(id);
        if (!ended) setLive({ value, error: undefined });
      } catch (error) {
        if (!ended) setLive((before) => ({ ...before, error: textOf(error) }));
      }
    });
    let ended = false;
    read();
    const events = new EventSource(eventsAddress(id));
    events.addEventListener('change', read);
    events.addEventListener('error', () => {
      if (!ended) setLive((before) => ({ ...before, error: 'The server does not answer.' }));
    });
    events.addEventListener('open', read);
    return () => {
      ended = true;
      events.close();
    };
  }, [id]);
  return live;
}

/** Curves, read again when `version` changes; those before stay until the new ones are there. */
export function useCurves(id: string, version: number, asked: CurvesAsked): Curves | undefined {
  const [curves, setCurves] = useState<Curves>();
  const key = JSON.stringify([id, asked]);
  const wanted = useRef({ id, asked });
  wanted.current = { id, asked };
  const read = useRef<() => void>(undefined);
  const begin = useCallback(() => {
    read.current ??= oneAtATime(async () => {
      const { id, asked } = wanted.current;
      const found = await fetchCurves(id, asked).catch(() => undefined);
      if (found !== undefined && wanted.current.id === id) setCurves(found);
    });
    read.current();
  }, []);
  useEffect(begin, [key, version, begin]);
  return curves;
}

/** Runs it, and once more where it was asked for while it ran. */
function oneAtATime(work: () => Promise<void>): () => void {
  let running = false;
  let again = false;
  const run = async (): Promise<void> => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      await work();
    } while (again);
    running = false;
  };
  return () => void run();
}

const NOTHING = { value: undefined, error: undefined };

function textOf(error: unknown): string {
  return error instanceof TypeError ? 'The server does not answer.' : (error as Error).message;
}
