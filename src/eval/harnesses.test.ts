/** The scoring rules, question by question, against what the harnesses' own functions made of the same answers. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import type { Item } from './item.js';
import { grade, score } from './score.js';
import { bootstrap } from './statistics.js';
import { findHarness, findTask } from './tasks.js';

interface Stored {
  questions: {
    answers: string[];
    /** The same, with boxes as lists of shares. */
    listed: string[];
    yes: number[];
    kinds: string[];
    right: string[];
    options: Record<string, string>[];
    people: string[][];
    boxes: { bbox: [number, number, number, number]; height: number; width: number }[];
    mmeKinds: string[];
  };
  scores: Record<string, number[]>;
  totals: Record<string, Record<string, number>> & {
    'vlmevalkit/pope': Record<string, Record<string, number>>;
  };
}

const file = join(packageRoot(), 'test', 'fixtures', 'eval', 'scores.json.gz');
const { questions, scores, totals } = JSON.parse(
  gunzipSync(readFileSync(file)).toString(),
) as Stored;
const { answers, listed, yes, kinds, right, options, people, boxes, mmeKinds } = questions;

function items(make: (i: number) => Partial<Item>): Item[] {
  return answers.map((_, i) => ({
    id: i,
    question: 'q',
    options: new Map(),
    answers: [],
    categories: [],
    pictures: [],
    scene: String(i),
    group: String(i),
    where: `entry ${i}`,
    ...make(i),
  }));
}

const at = <T>(pool: readonly T[], i: number): T => pool[i % pool.length]!;
const choices = items((i) => ({
  options: new Map(Object.entries(at(options, i))),
  answers: [right[i]!],
}));
const written = items((i) => ({ answers: [yes[i] === 1 ? 'yes' : 'no'], categories: [kinds[i]!] }));
const turns = items((i) => ({
  options: new Map(Object.entries(options[1]!)),
  answers: ['ABCD'[i % 4]!],
  group: String(i - (i % 2)),
}));
const boxed = items((i) => {
  const { bbox, width, height } = at(boxes, i);
  return { box: { corner: bbox, width, height } };
});
const mme = items((i) => ({
  answers: [yes[i] === 1 ? 'yes' : 'no'],
  categories: [at(mmeKinds, Math.floor(i / 2))],
  group: String(Math.floor(i / 2)),
}));

const graded = (name: string, harness: string, of: readonly Item[], texts = answers) => {
  const by = findHarness(findTask(name), harness).harness;
  return { by, graded: grade(of, texts, by) };
};

describe('each answer has the score that the harness gives it', () => {
  test.each([
    ['llava', 'pope', written],
    ['llava', 'scienceqa', choices],
    ['llava', 'gqa', items((i) => ({ answers: [at(people, i)[0]!] }))],
    ['llava', 'textvqa', items((i) => ({ answers: at(people, i) }))],
    ['vlmevalkit', 'pope', written],
    ['vlmevalkit', 'choice', choices],
    ['vlmevalkit', 'textvqa', items((i) => ({ answers: at(people, i) }))],
    ['vlmevalkit', 'gqa', items((i) => ({ answers: [at(people, i)[0]!] }))],
    ['lmms-eval', 'pope', written],
    ['lmms-eval', 'mme', mme],
    ['lmms-eval', 'scienceqa', choices],
    ['lmms-eval', 'textvqa', items((i) => ({ answers: at(people, i) }))],
    ['lmms-eval', 'gqa', items((i) => ({ answers: [at(people, i)[0]!] }))],
    ['lmms-eval', 'mmbench', choices, 'alone'],
    ['lmms-eval', 'refcoco', boxed],
    ['xtuner', 'refcoco', boxed],
  ])('%s, %s', (harness, name, of, kind = '') => {
    const expected = scores[[harness, name, kind].filter((each) => each !== '').join('/')]!;
    const texts = harness === 'lmms-eval' && name === 'refcoco' ? listed : answers;
    const own = graded(name, harness, of, texts).graded;
    const wrong = own.flatMap(({ text, extracted, score }, i) =>
      Math.abs(score - expected[i]!) < 1e-12
        ? []
        : [{ text, extracted, score, expected: expected[i] }],
    );
    expect(wrong).toEqual([]);
    expect(own.length).toBeGreaterThanOrEqual(2000);
    // Else a rule that calls all wrong would pass.
    expect(own.filter(({ score }) => score > 0).length).toBeGreaterThan(30);
  });

  test('an answer of a million characters is read as any other', () => {
    const { graded: own } = graded(
      'gqa',
      'llava',
      [{ ...written[0]!, answers: ['x'] }],
      [`${'.'.repeat(1_000_000)}x`],
    );
    expect(own[0]!.score).toBe(0);
  });

  test.each(['vlmevalkit', 'xtuner', 'lmms-eval'])('%s, turns of a choice', async (harness) => {
    const { graded: own, by } = graded('mmbench', harness, turns);
    const expected = scores[`${harness}/mmbench`]!;
    const pairs = expected.map((_, i) => Math.min(own[2 * i]!.score, own[2 * i + 1]!.score));
    expect(pairs).toEqual(expected);
    expect(pairs.filter((each) => each === 1).length).toBeGreaterThan(30);
    const total = await score(own, by);
    const mean = expected.reduce((sum, each) => sum + each, 0) / expected.length;
    expect(total).toMatchObject({ n: expected.length, intervalMethod: 'wilson' });
    expect(total.score).toBeCloseTo(mean, 12);
  });
});

describe('totals are those of the harness', () => {
  test('POPE by LLaVA', async () => {
    const { graded: own, by } = graded('pope', 'llava', written);
    const { categories } = await score(own, by);
    for (const kind of ['random', 'popular', 'adversarial']) {
      const {
        Accuracy,
        Precision,
        Recall,
        'F1 score': f1,
        'Yes ratio': yesRatio,
      } = totals[`llava/pope/${kind}`]!;
      const { accuracy, precision, recall, ...rest } = categories[kind]!;
      expect(accuracy).toBeCloseTo(Accuracy!, 12);
      expect(precision).toBeCloseTo(Precision!, 12);
      expect(recall).toBeCloseTo(Recall!, 12);
      expect(rest['f1']).toBeCloseTo(f1!, 12);
      expect(rest['yesRatio']).toBeCloseTo(yesRatio!, 12);
    }
  });

  test.each(['llava', 'vlmevalkit', 'lmms-eval'])('POPE by %s, drawn again', async (harness) => {
    const { graded: own, by } = graded('pope', harness, written.slice(0, 300));
    const { interval } = await score(own, by);
    const strata = [...new Set(kinds)].map((kind) =>
      own.filter(({ item }) => item.categories[0] === kind).map((each) => [each]),
    );
    expect(interval).toEqual(await bootstrap(strata, (drawn) => by.total!(drawn).score));
  });

  test('POPE by VLMEvalKit, questions of several kinds', async () => {
    const of = items((i) => ({
      answers: [yes[i] === 1 ? 'yes' : 'no'],
      categories: [...new Set([kinds[i]!, kinds[Math.floor(i / 3)]!])],
    }));
    const { graded: own, by } = graded('pope', 'vlmevalkit', of);
    const { metrics, categories } = await score(own, by);
    for (const [kind, expected] of Object.entries(totals['vlmevalkit/pope'])) {
      const found = kind === 'Overall' ? metrics : categories[kind]!;
      for (const [name, value] of Object.entries(expected)) {
        expect(100 * found[name]!).toBeCloseTo(value, 10);
      }
    }
  });

  test('POPE by lmms-eval', async () => {
    const { graded: own, by } = graded('pope', 'lmms-eval', written);
    const { f1_score: f1, yes_ratio: yesRatio, ...rest } = totals['lmms-eval/pope']!;
    const { metrics } = await score(own, by);
    for (const [name, value] of Object.entries({ ...rest, f1, yesRatio })) {
      expect(metrics[name]).toBeCloseTo(value!, 12);
    }
  });

  test('RefCOCO by lmms-eval', async () => {
    const { graded: own, by } = graded('refcoco', 'lmms-eval', boxed, listed);
    const { score: share, metrics, intervalMethod, n } = await score(own, by);
    const expected = totals['lmms-eval/refcoco']!;
    expect([share, metrics['iou'], metrics['centre']]).toEqual([
      expected['acc05'],
      expect.closeTo(expected['iou']!, 12),
      expected['center_acc'],
    ]);
    for (const tenths of [1, 3, 5, 7, 9]) {
      expect(metrics[`accuracy0.${tenths}`]).toBe(expected[`acc0${tenths}`]);
    }
    expect([n, intervalMethod]).toEqual([2400, 'wilson']);
  });

  test('MME', async () => {
    const kit = await score(...total('vlmevalkit'));
    const expected = totals['vlmevalkit/mme']!;
    for (const name of ['perception', 'reasoning']) {
      expect(kit.metrics[name]).toBeCloseTo(expected[name]!, 8);
    }
    for (const kind of mmeKinds) {
      expect(kit.categories[kind]!.score).toBeCloseTo(expected[kind]!, 8);
    }
    const lmms = await score(...total('lmms-eval'));
    expect(lmms.metrics['perception']).toBeCloseTo(totals['lmms-eval/mme']!['perception']!, 8);
    expect(lmms.metrics['reasoning']).toBeCloseTo(totals['lmms-eval/mme']!['cognition']!, 8);
  });

  function total(harness: string) {
    const { graded: own, by } = graded('mme', harness, mme);
    return [own, by] as const;
  }
});
