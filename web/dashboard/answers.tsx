/** What the model answered to the probe questions as it learnt, beside what it said at first. */
import { useState } from 'preact/hooks';

import { pictureAddress, type RunView } from './api.js';

interface Answer {
  readonly question: string;
  readonly images: readonly string[];
  readonly answer: string;
}

interface Asked {
  readonly update: number;
  readonly answers: readonly Answer[];
}

export function Answers({ run }: { run: RunView }) {
  const all = latestOfEach(run.probes as unknown as Asked[]);
  const [chosen, setChosen] = useState<number>();
  if (all.length === 0) return null;
  const first = all[0]!;
  const at = Math.min(chosen ?? all.length - 1, all.length - 1);
  const shown = all[at]!;
  return (
    <section aria-labelledby="answers">
      <h3 id="answers">Answers</h3>
      {all.length > 1 && (
        <label class="slider">
          After update{' '}
          <input
            type="range"
            min="0"
            max={all.length - 1}
            value={at}
            aria-valuetext={`update ${shown.update}`}
            onInput={({ currentTarget }) => setChosen(Number(currentTarget.value))}
          />{' '}
          <output>{shown.update.toLocaleString('en')}</output>
        </label>
      )}
      <ul class="answers">
        {shown.answers.map(({ question, images, answer }, i) => (
          <li key={`${i} ${question}`}>
            {images.map((path) => (
              <img
                key={path}
                src={pictureAddress(run.id, path)}
                alt={path.split('/').at(-1) ?? path}
                loading="lazy"
              />
            ))}
            <div>
              <p class="question">{question}</p>
              <p class="answer">{answer === '' ? <i>nothing</i> : answer}</p>
              {at > 0 && first.update === 0 && (
                <p class="before">
                  Before training:{' '}
                  {first.answers[i]?.answer === '' ? <i>nothing</i> : first.answers[i]?.answer}
                </p>
              )}
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** A run that went on has told some twice. */
function latestOfEach(probes: readonly Asked[]): Asked[] {
  const byUpdate = new Map(probes.map((each) => [each.update, each]));
  return [...byUpdate.values()].sort((a, b) => a.update - b.update);
}
