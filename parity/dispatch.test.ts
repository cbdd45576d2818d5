import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { dispatch } from './dispatch.js';

const fixtures = (name: string) =>
  fileURLToPath(new URL(`../test/fixtures/${name}`, import.meta.url));

let out: string[];
let err: string[];
beforeEach(() => {
  out = [];
  err = [];
  vi.spyOn(console, 'log').mockImplementation((text: string) => void out.push(text));
  vi.spyOn(console, 'error').mockImplementation((text: string) => void err.push(text));
});
afterEach(() => vi.restoreAllMocks());

describe('dispatch', () => {
  it('explains itself, and exits with 2 where no kind is given', async () => {
    expect(await dispatch(['--help'])).toBe(0);
    expect(await dispatch(['pixels', '--help'])).toBe(0);
    expect(await dispatch([])).toBe(2);
    expect(out).toHaveLength(3);
    expect(out[0]).toContain('pixels FOLDER [--out DIR]');
  });

  it('asks back for an unknown kind', async () => {
    expect(await dispatch(['pixel', 'x'])).toBe(2);
    expect(err[0]).toContain('Did you mean "pixels"?');
    expect(await dispatch(['toString'])).toBe(2);
    expect(err[1]).not.toContain('Did you mean');
  });

  it('names wrong options, missing paths and folders of another shape', async () => {
    expect(await dispatch(['pixels', 'x', '--aut', 'y'])).toBe(2);
    expect(err[0]).toContain("'--aut'");
    expect(await dispatch(['pixels'])).toBe(2);
    expect(err[1]).toContain('takes one path and was given 0');
    expect(await dispatch(['pixels', 'x', 'y'])).toBe(2);
    expect(await dispatch(['pixels', '/nonexistent'])).toBe(4);
    expect(err[3]).toContain('/nonexistent/expected.json');
    expect(await dispatch(['pixels', fixtures('nn')])).toBe(4);
  });

  it('returns 0 when all is within tolerance', async () => {
    expect(await dispatch(['pixels', fixtures('pixels-more')])).toBe(0);
    expect(out.at(-1)).toMatch(/All \d+ quantities are within tolerance\.$/);
  });
});
