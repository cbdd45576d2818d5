/** The scores of tasks over training, one picture for each, those of other runs over them where these were asked the same. */
import type { ComponentChildren } from 'preact';

import type { RunView, ShownScore } from './api.js';
import { Chart, colour, type Line } from './chart.js';
import { useRun } from './live.js';
import { numberText, percentText } from './text.js';

export function Scores({ run, beside }: { run: RunView; beside: readonly string[] }) {
  const names = [...new Set(run.scores.map(({ name }) => name))];
  if (names.length === 0) return null;
  // Each is asked for in a component of its own: hooks are counted.
  return beside.reduceRight<(others: readonly RunView[]) => ComponentChildren>(
    (next, id) => (before) => (
      <Other key={id} id={id}>
        {(other) => next(other === undefined ? before : [...before, other])}
      </Other>
    ),
    (others) => (
      <section aria-labelledby="scores">
        <h3 id="scores">Tasks</h3>
        <div class="charts">
          {names.map((name) => (
            <Score key={name} name={name} run={run} others={others} />
          ))}
        </div>
      </section>
    ),
  )([]);
}

function Other({
  id,
  children,
}: {
  id: string;
  children: (run: RunView | undefined) => ComponentChildren;
}) {
  return <>{children(useRun(id).value)}</>;
}

interface ScoreProps {
  name: string;
  run: RunView;
  others: readonly RunView[];
}

function Score({ name, run, others }: ScoreProps) {
  const own = latestOfEach(run.scores, name);
  const { task, harness, n } = own.at(-1)!;
  const sameTask = (each: ShownScore): boolean => each.task === task && each.harness === harness;
  const curves = others
    .map(({ id, scores }) => ({ id, scores: latestOfEach(scores.filter(sameTask), name) }))
    .filter(({ scores }) => scores.length > 0);
  const all = [own, ...curves.map(({ scores }) => scores)];
  const x = [...new Set(all.flat().map(({ update }) => update))].sort((a, b) => a - b);
  const band = [0, 1].map((side) => at(x, own, ({ interval }) => interval[side]!));
  const lines: Line[] = [
    {
      ...{ label: name, colour: colour(0), values: at(x, own, ({ score }) => score) },
      band: [band[0]!, band[1]!],
    },
    ...curves.map(({ id, scores }, i) => ({
      ...{ label: id, colour: colour(i + 1), values: at(x, scores, ({ score }) => score) },
    })),
  ];
  const isShare = all.flat().every(({ score }) => score <= 1);
  return (
    <Chart
      title={`${name}: ${n.toLocaleString('en')} questions, rules of ${harness}, 95 %`}
      x={x}
      lines={lines.map((each) => ({ ...each, style: 'joined' }))}
      format={isShare ? percentText : numberText}
    />
  );
}

/** In order; a run that went on has told some twice. */
function latestOfEach(scores: readonly ShownScore[], name: string): ShownScore[] {
  const own = scores.filter((each) => each.name === name);
  const byUpdate = new Map(own.map((each) => [each.update, each]));
  return [...byUpdate.values()].sort((a, b) => a.update - b.update);
}

function at(
  x: readonly number[],
  scores: readonly ShownScore[],
  value: (score: ShownScore) => number,
): (number | null)[] {
  const byUpdate = new Map(scores.map((each) => [each.update, value(each)]));
  return x.map((update) => byUpdate.get(update) ?? null);
}
