/** The picture of a plan: true to the plan, whole by itself, and readable without colours. */
import fc from 'fast-check';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { escapedXml } from '../../base/xml.js';
import { checkRecipe } from '../../config/index.js';
import type { Known, Life } from '../categories.js';
import { courseOf, GROUPS, type Moment } from '../course.js';
import { limitOf, plan, type Plan } from '../plan.js';
import type { Suggestion } from '../search/search.js';
import { cardsOf, SMALL } from '../search/testing.js';
import { planPage } from './page.js';
import { planSvg, type FigureParts } from './svg.js';

const gpus = cardsOf(600 * 2 ** 20, 2);
const NAME = 'a <b> & "c"';

let parts: FigureParts;
beforeAll(async () => {
  const recipe = checkRecipe(SMALL);
  let moments: readonly Moment[] = [];
  const planned = await plan(recipe, { gpus, onCourse: (course) => (moments = course) });
  parts = { plan: { ...planned, recipe: NAME }, moments, limit: limitOf(recipe, gpus.card) };
});

const totalOf = ({ alive }: Moment): number => GROUPS.reduce((sum, group) => sum + alive[group], 0);

describe('the course', () => {
  test('is that of one update, to the peak of the plan', () => {
    const { moments, plan: planned } = parts;
    expect(moments.length).toBeGreaterThan(100);
    const phases = new Set(moments.map(({ phase }) => phase));
    expect([...phases]).toEqual(['forward', 'head', 'backward', 'update']);
    const highest = moments.reduce((a, b) => (totalOf(b) > totalOf(a) ? b : a));
    const { allocated, phase, atPeak } = planned.perRank[0]!;
    expect(highest.phase).toBe(phase);
    // But for blocks that are rounded, and what cuBLAS holds for two threads.
    const libraries = 20 * 2 ** 20;
    expect(totalOf(highest)).toBeLessThanOrEqual(allocated);
    expect(totalOf(highest)).toBeGreaterThan(allocated - libraries);
    expect(highest.alive.states).toBe(atPeak.masters + atPeak.optimizer);
    expect(highest.alive.weights).toBe(atPeak['frozen weights'] + atPeak['trained weights']);
  });

  test('of whatever lives, each moment is the highest of its stretch', () => {
    // Each allocation and each free is a step of its own.
    const steps = fc.uniqueArray(fc.integer({ min: 1, max: 80 }), { minLength: 2 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 30 }), (ends, most) => {
        const all = Array.from({ length: Math.floor(ends.length / 2) }, (_, i) => {
          const [a, b] = [ends[2 * i]!, ends[2 * i + 1]!];
          return { from: Math.min(a, b), until: Math.max(a, b), bytes: 1 + ((a * 7) % 13) };
        });
        const place = { phase: 'forward', segment: 'a', visit: 1 } as const;
        const lives = new Map<number, Life>(
          all.map((each, block) => [
            block,
            { ...each, born: place, died: null, operator: 'aten::mm', shared: false },
          ]),
        );
        const known = new Map<number, Known>(
          all.map((_, block) => [block, { category: 'masters', name: '' }]),
        );
        const moves = [{ at: 0, phase: 'forward' }] as const;
        const moments = courseOf({ lives, known, moves, from: 10, to: 50 }, most);
        expect(moments.length).toBeLessThanOrEqual(most);
        const aliveAt = (step: number): number =>
          all.reduce((sum, { from, until, bytes }) => {
            return sum + (from <= step && step < until ? bytes : 0);
          }, 0);
        const changed = all.flatMap(({ from, until }) => [from, until]);
        const within = changed.filter((step) => step > 10 && step <= 50);
        const highest = Math.max(0, ...within.map(aliveAt));
        expect(Math.max(0, ...moments.map(totalOf))).toBe(highest);
        for (const { alive } of moments) expect(alive.weights).toBe(0);
      }),
    );
  });
});

/** Neither page nor picture reaches for anything. */
function expectWhole(text: string): void {
  expect(text.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|url\(|@import/);
  expect(text).not.toMatch(/<(?:script|link|image|img|iframe|foreignObject)\b|\shref=/);
}

describe('the picture', () => {
  test('can be drawn, and needs nothing else', async () => {
    const svg = planSvg(parts);
    const { width, height } = await sharp(Buffer.from(svg)).metadata();
    expect(width / height).toBeGreaterThan(1);
    expectWhole(svg);
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  test('has a title and says in words what it shows', () => {
    const svg = planSvg(parts);
    expect(svg).toContain('role="img" aria-labelledby="plan-title plan-desc"');
    expect(svg).toMatch(
      /<title id="plan-title">a &lt;b&gt; &amp; &quot;c&quot; on 2 x made up: fits/,
    );
    const [, words] = /<desc id="plan-desc">(.*)<\/desc>/.exec(svg)!;
    for (const group of GROUPS) expect(words).toContain(`${group} `);
    for (const { phase } of parts.plan.timeline) expect(words).toContain(`${phase} `);
    expect(svg).toContain('prefers-color-scheme: dark');
  });

  test('draws each group and phase, and the limit where it is near', () => {
    const count = (text: string, what: RegExp): number => [...text.matchAll(what)].length;
    const { allocated } = parts.plan.perRank[0]!;
    const svg = planSvg({ ...parts, limit: 1.1 * allocated });
    expect(count(svg, /<path fill=/g)).toBe(GROUPS.length);
    expect(count(svg, /class="reserved"/g)).toBe(parts.plan.timeline.length);
    expect(svg).toContain('what a process may reserve');
    const far = planSvg({ ...parts, limit: 100 * parts.limit });
    expect(far).not.toContain('what a process may reserve</text>');
  });

  test('of an update that took nothing is one too', async () => {
    const svg = planSvg({ ...parts, moments: [] });
    expect(svg).not.toMatch(/NaN|Infinity/);
    await expect(sharp(Buffer.from(svg)).metadata()).resolves.toBeDefined();
  });
});

describe('the page', () => {
  test('has the picture and the numbers of the plan as tables', () => {
    const suggestion: Suggestion = {
      ...{ set: ['parallel.zero=3'], allocated: 1, reserved: 2, total: 3 * 2 ** 30 },
      ...{ secondsPerUpdate: 1.25, numerics: 'none' },
    };
    const page = planPage({ ...parts, suggestions: [suggestion] });
    expectWhole(page);
    expect(page).toContain('<html lang="en">');
    expect(page).toContain('color-scheme: light dark');
    expect(page).not.toContain(NAME);
    const captions = [...page.matchAll(/<caption>(.*?)<\/caption>/g)].map(([, text]) => text);
    expect(captions).toHaveLength(5);
    const { phase } = parts.plan.perRank[0]!;
    expect(page).toContain(`<th scope="row">${phase} (the most of all)</th>`);
    for (const { name } of parts.plan.largest) expect(page).toContain(escapedXml(name));
    expect(page).toContain('<th scope="row">parallel.zero=3</th><td class="number">1.25 s</td>');
  });

  test('says what is not known', () => {
    const page = planPage({ ...parts, suggestions: [] });
    expect(page).toContain('not known without data');
    expect(page).not.toContain('What fits');
    const missing: Plan = { ...parts.plan, fits: false, margin: -(2 ** 30) };
    expect(planPage({ ...parts, plan: missing, suggestions: [] })).toContain(
      'does not fit: 1.00 GiB are missing',
    );
  });
});
