import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { dispatch } from './dispatch.js';
import { run } from './nf4.js';

const FIXTURE = fileURLToPath(new URL('../test/fixtures/nf4', import.meta.url));
const originals = process.env['PATINA_FIXTURES'];

let folder: string;
let printed: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-nf4-'));
  vi.spyOn(console, 'log').mockImplementation((text: string) => void (printed = text));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  vi.restoreAllMocks();
});

it('equals bitsandbytes, and writes what it made', async () => {
  expect(await run([FIXTURE, '--out', folder]), printed).toBe(true);
  expect(printed).toMatch(/checkpoint: 14 matrices dequantised .* 0 +0 +ok/);
  expect(printed).toMatch(/checkpoint, written by Patina: logits/);
  expect(readdirSync(folder)).toContain('f32_5x7.safetensors');
  expect(readdirSync(join(folder, 'checkpoint'))).toContain('config.json');
});

it.runIf(originals !== undefined)('equals the original fixtures', async () => {
  expect(await run([join(originals ?? '', 'nf4')]), printed).toBe(true);
});

it('fails on other bytes', async () => {
  cpSync(FIXTURE, folder, { recursive: true });
  const file = join(folder, 'f32_5x7.safetensors');
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  bytes[start + header['packed']!.data_offsets[0]]! ^= 1;
  writeFileSync(file, bytes);
  expect(await run([folder])).toBe(false);
  expect(printed).toMatch(/f32_5x7 packed \(elements that differ\) +1 +0 +FAIL/);
});

it('refuses what is no such folder, and a device that there is not', async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  expect(await dispatch(['nf4', folder])).toBe(4);
  expect(await dispatch(['nf4', FIXTURE, '--device', 'tpu'])).toBe(2);
});
