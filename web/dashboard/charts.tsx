/** The curves of a run, those of others over them where there are some. */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

import type { Curve, Curves, RunView, Told } from './api.js';
import { Chart, type ChartProps, colour, type Line } from './chart.js';
import { useCurves } from './live.js';
import { formatBytes, formatCount, numberText, percentText } from './text.js';

/** What the picture of a curve is made of, beside its values. */
type Frame = Pick<ChartProps, 'x' | 'gaps' | 'onZoom'>;

export function Charts({ run, beside }: { run: RunView; beside: readonly string[] }) {
  const [smoothing, setSmoothing] = useState(0.95);
  const [log, setLog] = useState(false);
  const [byRank, setByRank] = useState(false);
  const [range, setRange] = useState<readonly [number, number]>();
  const [place, points] = usePoints();
  const ranks = ranksOf(run);
  const keys = [...KEYS.filter((key) => run.keys.includes(key)), ...(byRank ? rankKeys(run) : [])];
  const asked = { keys, points, smoothing, from: range?.[0], to: range?.[1] };
  const curves = useCurves(run.id, run.version, asked);
  return (
    <section aria-label="Curves" ref={place}>
      <div class="tools">
        <label>
          Smoothing{' '}
          <input
            type="range"
            min="0"
            max="0.995"
            step="0.005"
            value={smoothing}
            onInput={({ currentTarget }) => setSmoothing(Number(currentTarget.value))}
          />{' '}
          {smoothing.toFixed(3)}
        </label>
        <label>
          <input
            type="checkbox"
            checked={log}
            onChange={({ currentTarget }) => setLog(currentTarget.checked)}
          />{' '}
          Log scale
        </label>
        {ranks.length > 0 && (
          <label>
            <input
              type="checkbox"
              checked={byRank}
              onChange={({ currentTarget }) => setByRank(currentTarget.checked)}
            />{' '}
            By rank
          </label>
        )}
        {range !== undefined && (
          <button type="button" onClick={() => setRange(undefined)}>
            Whole run
          </button>
        )}
        <span class="quiet">
          Drag over a chart to look closer. Red: not finite; strip below: left out.
        </span>
      </div>
      {curves === undefined || run.keys.length === 0 ? (
        <p class="quiet">No update yet.</p>
      ) : (
        <All {...{ run, beside, curves, log, byRank, range, points, smoothing, setRange }} />
      )}
    </section>
  );
}

interface AllProps {
  run: RunView;
  beside: readonly string[];
  curves: Curves;
  log: boolean;
  byRank: boolean;
  range: readonly [number, number] | undefined;
  points: number;
  smoothing: number;
  setRange: (range: readonly [number, number] | undefined) => void;
}

function All({ run, beside, curves, log, byRank, setRange, ...asked }: AllProps) {
  const { updates: x, gaps, series } = curves;
  const frame: Frame = { x, gaps, onZoom: setRange };
  const has = (key: string): boolean => series[key] !== undefined && run.keys.includes(key);
  const line = (key: string, label: string, colour = '--one'): Line => ({
    ...{ label, colour },
    values: series[key]?.mean ?? [],
  });
  const ofRanks = (key: string): Line[] =>
    byRank
      ? ranksOf(run).map((rank, i) => line(`${key}@${rank}`, `rank ${rank}`, colour(i + 1)))
      : [];
  return (
    <div class="charts">
      <Loss {...{ run, beside, frame, log, curve: series['loss'], ...asked }} />
      <Chart
        {...frame}
        title="Norm of the gradient, before clipping"
        lines={ranged('norm', '--two', series['gradientNorm'])}
        log={log}
      />
      <Chart
        {...frame}
        title="Learning rate"
        lines={ratesOf(run, series['learningRate'])}
        format={numberText}
      />
      <Chart
        {...frame}
        title="Tokens a second"
        lines={[
          line('tokensPerSecond', 'all'),
          ...(has('imageTokensPerSecond')
            ? [
                line('textTokensPerSecond', 'text', '--two'),
                line('imageTokensPerSecond', 'pictures', '--three'),
              ]
            : []),
          ...ofRanks('tokensPerSecond'),
        ]}
        format={formatCount}
      />
      <Chart
        {...frame}
        title="Waiting for data"
        lines={[line('waiting', 'share of the time'), ...ofRanks('waiting')]}
        format={percentText}
      />
      <Chart
        {...frame}
        title="Memory of the device"
        lines={[line('peakBytes', 'most so far'), ...plannedOf(run, x), ...ofRanks('peakBytes')]}
        format={formatBytes}
      />
      {has('filled') && (
        <Chart
          {...frame}
          title="Filled of batchTokens"
          lines={[line('filled', 'share')]}
          format={percentText}
        />
      )}
      {has('lossScale') && (
        <Chart
          {...frame}
          title="Loss scale"
          lines={[line('lossScale', 'scale')]}
          log
          format={formatCount}
        />
      )}
    </div>
  );
}

interface LossProps {
  run: RunView;
  beside: readonly string[];
  frame: Frame;
  log: boolean;
  curve: Curve | undefined;
  range: readonly [number, number] | undefined;
  points: number;
  smoothing: number;
}

/** Loss raw and smoothed, validation, and the smoothed loss of other runs. */
function Loss({ run, beside, frame, log, curve, range, points, smoothing }: LossProps) {
  const { x } = frame;
  const [first, last] = [x[0] ?? 0, x.at(-1) ?? 0];
  const lines = [
    ...ranged('loss', '--one', curve),
    ...(run.validations.length > 0 ? [validationLine(run.validations, x)] : []),
  ];
  // Each is asked for in a component of its own: hooks are counted.
  return beside.reduceRight<(lines: readonly Line[]) => ComponentChildren>(
    (next, id, i) => {
      const asked = {
        keys: ['loss'],
        points,
        smoothing,
        from: range?.[0] ?? first,
        to: range?.[1],
      };
      return (before) => (
        <Other key={id} {...{ id, version: run.version, asked }}>
          {(curves) => next([...before, otherLine(id, colour(i + 2), curves, [first, last], x)])}
        </Other>
      );
    },
    (all) => <Chart {...frame} title="Loss" lines={all} log={log} />,
  )(lines);
}

function Other({
  id,
  version,
  asked,
  children,
}: {
  id: string;
  version: number;
  asked: Parameters<typeof useCurves>[2];
  children: (curves: Curves | undefined) => ComponentChildren;
}) {
  return <>{children(useCurves(id, version, asked))}</>;
}

function ranged(label: string, colour: string, curve: Curve | undefined): Line[] {
  if (curve === undefined) return [];
  const { mean, low, high, smooth } = curve;
  const band = low !== undefined && high !== undefined ? ([low, high] as const) : undefined;
  if (smooth === undefined) return [{ label, colour, values: mean, band }];
  return [
    { label: `${label}, raw`, colour, values: mean, band, style: 'faint' },
    { label, colour, values: smooth.map((value, i) => (mean[i] === null ? null : value)) },
  ];
}

function validationLine(validations: readonly Told[], x: readonly number[]): Line {
  const values = x.map((): number | null => null);
  for (const { update, loss } of validations as unknown as { update: number; loss: unknown }[]) {
    const at = x.findIndex((each) => each >= update);
    if (at >= 0 && typeof loss === 'number') values[at] = loss;
  }
  return { label: 'validation', colour: '--two', values, style: 'points' };
}

/** Another run at the updates of this one: what it had when it was as far. */
function otherLine(
  label: string,
  colour: string,
  curves: Curves | undefined,
  [first, last]: readonly [number, number],
  x: readonly number[],
): Line {
  const { updates = [], series } = curves ?? {};
  const own = series?.['loss']?.smooth ?? series?.['loss']?.mean ?? [];
  let at = 0;
  const values = x.map((update) => {
    if (updates.length === 0 || update < updates[0]! || update > updates.at(-1)!) return null;
    while (at + 1 < updates.length && updates[at + 1]! <= update) at++;
    return update >= first && update <= last ? (own[at] ?? null) : null;
  });
  return { label, colour, values };
}

/** One line for each rate of the table of what trains. */
function ratesOf({ start }: RunView, curve: Curve | undefined): Line[] {
  if (curve === undefined) return [];
  const rows = (start?.['table'] ?? []) as { part: string; learningRate: number | null }[];
  const rates = rows.flatMap(({ part, learningRate }) =>
    learningRate === null ? [] : [{ part, learningRate }],
  );
  const most = Math.max(...rates.map(({ learningRate }) => learningRate));
  const base = rates.find(({ part }) => part === 'decoder')?.learningRate ?? most;
  const groups = new Map<number, Set<string>>();
  for (const { part, learningRate } of rates) {
    groups.set(learningRate, (groups.get(learningRate) ?? new Set()).add(part));
  }
  if (groups.size < 2) return [{ label: 'rate', colour: '--one', values: curve.mean }];
  return [...groups].map(([rate, parts], i) => ({
    label: [...parts].join(', '),
    colour: colour(i),
    values: curve.mean.map((value) => (value === null ? null : (value * rate) / base)),
  }));
}

/** What the planner said that it would take. */
function plannedOf({ memory }: RunView, x: readonly number[]): Line[] {
  const predicted = (memory?.['predicted'] as { reserved?: unknown } | undefined)?.reserved;
  if (typeof predicted !== 'number') return [];
  return [{ label: 'planned', colour: '--two', values: x.map(() => predicted), style: 'dashed' }];
}

const KEYS = [
  ...['loss', 'gradientNorm', 'learningRate', 'waiting', 'peakBytes', 'filled', 'lossScale'],
  ...['tokensPerSecond', 'textTokensPerSecond', 'imageTokensPerSecond'],
];

function rankKeys({ keys }: RunView): string[] {
  return keys.filter((key) => key.includes('@'));
}

function ranksOf({ keys }: RunView): number[] {
  return keys.flatMap((key) => (key.startsWith('waiting@') ? Number(key.slice(8)) : []));
}

/** About one point for two pixels of the place that charts have. */
function usePoints() {
  const place = useRef<HTMLElement>(null);
  const [points, setPoints] = useState(400);
  useEffect(() => {
    const measure = (): void => {
      const width = place.current?.clientWidth ?? 800;
      setPoints(Math.min(1000, Math.max(100, Math.round(width / 200) * 100)));
    };
    measure();
    addEventListener('resize', measure);
    return () => removeEventListener('resize', measure);
  }, []);
  return [place, points] as const;
}
