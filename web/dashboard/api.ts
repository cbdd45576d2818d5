/** What the server answers, typed as it makes it. */
import type { Curves } from '../../src/server/dashboard/curves.js';
import type {
  RecipeDifference,
  RecordView,
  RunCard,
  RunView,
} from '../../src/server/dashboard/shown.js';

export type { Curve, Curves, Gap } from '../../src/server/dashboard/curves.js';
export type {
  RecipeDifference,
  RecordView,
  RunCard,
  RunView,
  ShownPlace,
  ShownScore,
  ShownState,
  Told,
} from '../../src/server/dashboard/shown.js';

export interface CurvesAsked {
  readonly keys: readonly string[];
  readonly from?: number | undefined;
  readonly to?: number | undefined;
  readonly points: number;
  readonly smoothing?: number | undefined;
}

export const fetchRuns = (): Promise<{ runs: RunCard[] }> => get('runs');

export const fetchRun = (id: string): Promise<RunView> => get(`runs/${encodeURIComponent(id)}`);

export const fetchRecipe = (id: string): Promise<object> =>
  get(`runs/${encodeURIComponent(id)}/recipe`);

export const fetchDifferences = (
  ids: readonly string[],
): Promise<{ differences: RecipeDifference[] }> =>
  get(`differences?runs=${ids.map(encodeURIComponent).join(',')}`);

export function fetchCurves(id: string, asked: CurvesAsked): Promise<Curves> {
  const query = new URLSearchParams({ keys: asked.keys.join(','), points: `${asked.points}` });
  for (const name of ['from', 'to', 'smoothing'] as const) {
    const value = asked[name];
    if (value !== undefined) query.set(name, `${value}`);
  }
  return get(`runs/${encodeURIComponent(id)}/curves?${query.toString()}`);
}

export const fetchRecord = (id: string, source: string, record: number): Promise<RecordView> =>
  get(
    `runs/${encodeURIComponent(id)}/record?${new URLSearchParams({ source, record: `${record}` }).toString()}`,
  );

export const pictureAddress = (id: string, path: string): string =>
  `/api/runs/${encodeURIComponent(id)}/picture?${new URLSearchParams({ path }).toString()}`;

export const eventsAddress = (id: string): string => `/api/runs/${encodeURIComponent(id)}/events`;

export async function act(id: string, action: 'stop' | 'save' | 'resume'): Promise<void> {
  const address = `/api/runs/${encodeURIComponent(id)}/${action}`;
  await answer(await fetch(address, { method: 'POST', headers: { 'x-patina': '1' } }));
}

async function get<T>(path: string): Promise<T> {
  return (await answer(await fetch(`/api/${path}`))) as T;
}

async function answer(response: Response): Promise<unknown> {
  const body = (await response.json().catch(() => null)) as {
    error?: { message: string; hint?: string | null };
  } | null;
  if (response.ok && body !== null) return body;
  const { message, hint } = body?.error ?? { message: `The server answered ${response.status}.` };
  throw new Error(hint ? `${message} ${hint}` : message);
}
