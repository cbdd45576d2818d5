/** The page of runs in a real browser. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Browser } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../../src/base/native-path.js';
import { metricsLine, writeRun } from '../../src/server/dashboard/testing.js';
import { CHROMIUM, openBrowser, openPage, unreadable } from './browser.js';

if (CHROMIUM === undefined) {
  process.stderr.write('There is no Chromium here: tests of pages in a browser are skipped.\n');
}

describe.skipIf(CHROMIUM === undefined)('the page of runs', () => {
  let root: string;
  let browser: Browser;
  let server: ChildProcess;
  let address: string;
  const url = (run: string): string => `${address}#${run}`;

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'patina-page-'));
    await sharp({ create: { width: 64, height: 48, channels: 3, background: 'teal' } })
      .png()
      .toFile(join(root, 'sea.png'));
    const source = join(root, 'a.jsonl');
    writeFileSync(
      source,
      '{"id":"r1","image":"sea.png","conversations":[{"from":"human","value":"<image>"},{"from":"gpt","value":"A shore"}]}\n{"id":\n',
    );
    writeRun(root, 'nan', {
      ...{
        planned: 400,
        recipe: { name: 'demo', data: { sources: [{ path: source, weight: 1 }] } },
      },
      metrics: Array.from({ length: 300 }, (_, i) =>
        metricsLine(i + 1, i >= 100 && i < 105 ? { loss: NaN, skipped: true } : {}),
      ),
      events: [
        { type: 'validation', update: 100, loss: 1.5 },
        ...[0, 100].map((update) => ({
          ...{ type: 'probes', update },
          answers: [
            { question: 'What is it?', images: ['sea.png'], answer: update ? 'The sea' : '' },
          ],
        })),
        ...[101, 102].map((update) => ({
          ...{ type: 'diagnosis', update, cause: 'poisoned-record', confidence: 0.9 },
          ...{ message: 'One record makes the loss NaN.', fix: '--set a=b' },
          ...{ evidence: ['alone: NaN'], module: 'head', rank: null, page: 'docs/causes/x.md' },
          records: [{ source, line: 1, record: 1, id: 'r1' }],
        })),
        {
          ...{ type: 'finding', cause: 'no-clipping', severity: 'warning', count: 1 },
          ...{ message: 'gradients are not clipped', fix: '--set optimizer.clipNorm=1' },
          ...{ source: null, line: null, id: null },
        },
        {
          ...{ type: 'bad-record', update: 1 },
          record: { file: source, line: 2, record: 2, id: null, code: 'E_END', reason: 'no end' },
        },
      ],
    });
    writeRun(root, 'crashed', { state: 'running', planned: 50, metrics: [metricsLine(1)] });
    writeRun(root, 'long', {
      metrics: Array.from({ length: 100_000 }, (_, i) => metricsLine(i + 1)),
    });
    const args = [join(packageRoot(), 'bin/patina.js'), 'dashboard', root, '--port', '0', '--json'];
    server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(createInterface(server.stdout!), 'line')) as [string];
    address = (JSON.parse(line) as { url: string }).url;
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser.close();
    server.kill('SIGINT');
    expect(await once(server, 'exit')).toEqual([0, null]);
    rmSync(root, { recursive: true });
  });

  it('shows what went wrong, with its gap, its card and its record', async () => {
    const { page, faults } = await openPage(browser);
    await page.goto(url('nan'));
    await page.getByText('Updates 101, 102: poisoned-record').waitFor();
    expect(await page.getByText('a.jsonl:1').isVisible()).toBe(true);
    const picture = page.getByRole('img', { name: 'picture 1 of record 1' });
    await picture.waitFor();
    expect(
      await picture.evaluate((element) => (element as HTMLImageElement).naturalWidth),
    ).toBeGreaterThan(0);
    await page.getByText('gradients are not clipped').waitFor();
    await page.getByText('--set optimizer.clipNorm=1').waitFor();
    // What was left out is read once it is opened.
    await page.getByText('a.jsonl:2').click();
    await page.locator('.record pre').nth(1).waitFor();
    const loss = page.getByRole('img', { name: /^Loss: / });
    expect(await loss.getAttribute('aria-label')).toMatch(/; 5 updates not finite; 5 left out$/);
    await page.getByText('Records left out: 1').waitFor();
    expect(faults).toEqual([]);
    await page.close();
  });

  it('shows answers beside those of before', async () => {
    const { page } = await openPage(browser);
    await page.goto(url('nan'));
    const after = page.getByRole('slider', { name: 'After update' });
    await page.getByText('The sea').waitFor();
    const picture = page.getByRole('img', { name: 'sea.png' });
    await picture.scrollIntoViewIfNeeded();
    await expect
      .poll(() => picture.evaluate((element) => (element as HTMLImageElement).naturalWidth))
      .toBe(64);
    await after.focus();
    await page.keyboard.press('ArrowLeft');
    await page.getByText('The sea').waitFor({ state: 'detached' });
    await page.close();
  });

  it('draws 100,000 updates, and a part of them', async () => {
    const { page, faults } = await openPage(browser);
    await page.goto(url('long'));
    await page.getByText('100,000 of 100,000 updates').waitFor();
    const loss = page.getByRole('img', { name: /^Loss: / });
    const box = (await loss.boundingBox())!;
    const [from, to] = [box.x + box.width / 2, box.x + box.width / 2 + 200];
    await page.mouse.move(from, box.y + 100);
    await page.mouse.down();
    await page.mouse.move(to, box.y + 100, { steps: 5 });
    await page.mouse.up();
    await page.getByRole('button', { name: 'Whole run' }).click();
    expect(faults).toEqual([]);
    await page.close();
  });

  it('says that a run crashed, and how it goes on', async () => {
    const { page } = await openPage(browser);
    await page.goto(url('crashed'));
    await page.getByText('The run crashed').waitFor();
    await page.getByRole('button', { name: 'Resume' }).click();
    // Its recipe is of a test: what training said is shown.
    await page.getByRole('alert').getByText('did not go on').waitFor();
    await page.close();
  });

  it.each([
    [390, 'light'],
    [820, 'dark'],
    [1400, 'dark'],
  ] as const)('is readable and fits at %d pixels, %s', async (width, colorScheme) => {
    const { page, faults } = await openPage(browser, {
      viewport: { width, height: 900 },
      colorScheme,
    });
    await page.goto(url('nan'));
    await page.getByText('Updates 101, 102: poisoned-record').waitFor();
    await page.locator('.chart canvas').first().waitFor();
    expect(await unreadable(page)).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
    expect(faults).toEqual([]);
    await page.close();
  });

  it('compares runs and their recipes', async () => {
    const { page } = await openPage(browser);
    await page.goto(url('nan'));
    await page.getByText('Compare with other runs').click();
    await page.getByRole('checkbox', { name: 'crashed' }).check();
    await page.getByText(/Recipes: \d+ fields differ/).waitFor();
    await page.getByRole('img', { name: /^Loss: .*crashed/ }).waitFor();
    await page.close();
  });

  it('says in the list that a loss is not finite', async () => {
    const { page } = await openPage(browser);
    writeRun(root, 'broken', { metrics: [metricsLine(1), metricsLine(2, { loss: NaN })] });
    await page.goto(url('broken'));
    const link = page
      .getByRole('navigation', { name: 'Runs' })
      .getByRole('link', { name: 'broken' });
    await link.getByText('loss not finite').waitFor();
    await page.getByRole('img', { name: /^Loss: loss from 4 to not finite;/ }).waitFor();
    await page.close();
  });

  it('shows nothing without its token', async () => {
    const page = await (await browser.newContext()).newPage();
    const response = await page.goto(address.replace(/token=.*/, ''));
    expect(response!.status()).toBe(401);
    await page.context().close();
  });
});
