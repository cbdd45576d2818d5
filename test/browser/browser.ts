/** A headless Chromium for tests of pages: Debian's, or the one that CHROMIUM names. */
import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

export const CHROMIUM = [
  process.env['CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
].find((path) => path !== undefined && existsSync(path));

export function openBrowser(): Promise<Browser> {
  // Its sandbox does not run for root, which containers are; the pages are our own.
  return chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] });
}

/** A page that notes what goes wrong in it. */
export async function openPage(
  browser: Browser,
  options: Parameters<Browser['newPage']>[0] = {},
): Promise<{ page: Page; faults: string[] }> {
  const page = await browser.newPage(options);
  const faults: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(error.message));
  return { page, faults };
}

/** Elements that say nothing to who does not see them, and text that is hard to read; empty where all is well. */
export function unreadable(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const found: string[] = [];
    const name = (element: Element): string =>
      `${element.tagName.toLowerCase()}.${element.getAttribute('class') ?? ''}: ${element.textContent.slice(0, 40)}`;
    for (const element of document.querySelectorAll(
      'button, a[href], input, select, [role="img"], img',
    )) {
      const labels = (element as HTMLInputElement).labels;
      const told =
        element.getAttribute('aria-label') ??
        element.getAttribute('alt') ??
        (labels?.length ? labels[0]!.textContent : element.textContent);
      if (told.trim() === '') found.push(`no label: ${name(element)}`);
    }
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })!;
    const channels = (colour: string): [number, number, number, number] => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return [r!, g!, b!, a!];
    };
    const luminance = ([r, g, b]: readonly number[]): number => {
      const linear = [r!, g!, b!].map((value) => {
        const share = value / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
    };
    const ground = (element: Element | null): number[] => {
      for (let at = element; at !== null; at = at.parentElement) {
        const colour = channels(getComputedStyle(at).backgroundColor);
        if (colour[3] === 255) return colour;
      }
      return [255, 255, 255];
    };
    for (const element of document.querySelectorAll('body *')) {
      const own = [...element.childNodes].some(
        (node) => node.nodeType === Node.TEXT_NODE && node.textContent!.trim() !== '',
      );
      if (!own || (element as HTMLElement).offsetParent === null) continue;
      const pair = [channels(getComputedStyle(element).color), ground(element)].map(luminance);
      const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      // WCAG 2, level AA.
      if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(2)}: ${name(element)}`);
    }
    return found;
  });
}
