/** The page to chat on, in a real browser. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../../src/base/native-path.js';
import { CHAT_FOLDER, PICTURE } from '../../src/generate/testing.js';
import { CHROMIUM, openBrowser, openPage, unreadable } from './browser.js';

describe.skipIf(CHROMIUM === undefined)('the page to chat on', () => {
  let browser: Browser;
  let server: ChildProcess;
  let address: string;

  beforeAll(async () => {
    const options = ['--key', 'secret', '--port', '0', '--device', 'cpu', '--json'];
    const args = ['serve', CHAT_FOLDER, '--name', 'tiny', '--max-new-tokens', '8', ...options];
    server = spawn(process.execPath, [join(packageRoot(), 'bin/patina.js'), ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface(server.stdout!), 'line')) as [string];
    address = (JSON.parse(line) as { url: string }).url;
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser.close();
    server.kill('SIGINT');
    await once(server, 'exit');
  });

  it.each([
    [390, 'dark'],
    [1280, 'light'],
  ] as const)('answers about a picture at %d pixels, %s', async (width, colorScheme) => {
    const { page, faults } = await openPage(browser, {
      viewport: { width, height: 800 },
      colorScheme,
    });
    await page.goto(`${address}/#key=secret`);
    await page
      .getByRole('combobox', { name: 'Model' })
      .getByText('tiny')
      .waitFor({ state: 'attached' });
    await page.getByLabel('Picture', { exact: true }).setInputFiles(PICTURE);
    const question = page.getByRole('textbox', { name: 'Question' });
    await question.fill('What is it?');
    await question.press('Enter');
    await page.getByRole('main').getByText('What is it?').waitFor();
    await page.getByRole('button', { name: 'Ask' }).waitFor();
    const answer = page.getByRole('main').locator(':scope > *').nth(1);
    await expect.poll(() => answer.textContent()).not.toBe('');
    expect(await unreadable(page)).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
    expect(faults).toEqual([]);
    await page.close();
  });

  it('asks for the key where the address has none or a wrong one', async () => {
    const { page } = await openPage(browser);
    await page.goto(`${address}/#key=wrong`);
    await page.getByRole('alert').getByText('The API key is not the one wanted').waitFor();
    await page.getByLabel('Key').fill('secret');
    await page.getByRole('button', { name: 'Enter' }).click();
    await page.getByRole('textbox', { name: 'Question' }).waitFor();
    await page.getByLabel('Key').waitFor({ state: 'hidden' });
    expect(await page.getByRole('alert').textContent()).toBe('');
    await page.close();
  });
});
