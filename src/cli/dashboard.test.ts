import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { type Ended, patina } from './testing.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-dashboard-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A process that shows the page, ended by Ctrl-C once it stands. */
async function shown(...args: string[]): Promise<Ended> {
  const bin = join(packageRoot(), 'bin/patina.js');
  const child = spawn(process.execPath, [bin, 'dashboard', ...args, '--port', '0']);
  let [out, err] = ['', ''];
  child.stdout.on('data', (data) => (out += String(data)));
  child.stderr.on('data', (data) => {
    err += String(data);
    if (err.includes('Ctrl-C ends the page')) child.kill('SIGINT');
  });
  const [code] = (await once(child, 'close')) as [number];
  return { code, out, err };
}

describe('patina dashboard', () => {
  it('tells of a folder that is not there, or is none', async () => {
    writeFileSync(join(folder, 'file'), '');
    for (const [place, problem] of [
      [join(folder, 'nowhere'), 'There is no folder'],
      [join(folder, 'file'), 'This is no folder'],
    ] as const) {
      const { code, out, err } = await patina('dashboard', place);
      expect([code, out]).toEqual([2, '']);
      expect(err).toContain(problem);
      expect(err).toContain('E_NO_RUNS');
    }
  });

  it('opens a folder without runs, and says that they will appear', async () => {
    const { code, out, err } = await shown(folder);
    expect(code).toBe(0);
    expect(out).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\?token=[\w-]{32}\n$/);
    expect(err).toContain('runs appear as they begin');
    expect(err).not.toContain('warning');
  });

  it('warns where others reach it', async () => {
    const { out, err } = await shown(folder, '--host', '0.0.0.0', '--json');
    // What is printed opens on this machine.
    expect((JSON.parse(out) as { url: string }).url).toMatch(
      /^http:\/\/127\.0\.0\.1:\d+\/\?token=/,
    );
    expect(err).toMatch(/warning: other machines reach this at http:\/\/.+:\d+/);
  });

  it('and `patina serve` tell of a port that is taken or none, `serve` before it loads a model', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const port = `${(other.address() as AddressInfo).port}`;
    for (const command of [
      ['dashboard', folder],
      ['serve', join(folder, 'no-model')],
    ]) {
      const { code, err } = await patina(...command, '--port', port);
      expect([code, err]).toEqual([
        3,
        expect.stringContaining(`Port ${port} of 127.0.0.1 is taken`),
      ]);
      expect((await patina(...command, '--port', '65536')).err).toContain('from 0 to 65535');
    }
    other.close();
  });
});
