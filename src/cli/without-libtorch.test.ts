import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { COMMANDS } from './commands.js';

const execute = promisify(execFile);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-without-'));
  const run = join(folder, 'runs', 'mine');
  mkdirSync(run, { recursive: true });
  const at = new Date().toISOString();
  const facts = {
    name: 'mine',
    recipe: 'mine',
    state: 'finished',
    created: at,
    changed: at,
    updates: 2,
  };
  writeFileSync(join(run, 'state.json'), JSON.stringify(facts));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the command where the addon, and with it libtorch, cannot be loaded. */
async function patina(args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const env = { ...process.env, PATINA_ADDON: join(folder, 'nothing') };
  return execute(join(packageRoot(), 'bin/patina.js'), args, { cwd: folder, env });
}

describe('without libtorch', () => {
  it('nothing is trained', async () => {
    await expect(patina(['train', 'quickstart'])).rejects.toMatchObject({
      code: 3,
      stderr: expect.stringContaining('E_NOT_SET_UP') as string,
    });
  });

  const subcommands = ['runs list', 'runs show', 'recipes list', 'recipes show', 'recipes copy'];
  const helped = [...COMMANDS.map(({ name }) => name), ...subcommands];
  it.each(helped)('`patina %s --help` prints help', async (name) => {
    const { stdout, stderr } = await patina([...name.split(' '), '--help']);
    expect(stdout).toMatch(new RegExp(`^Usage: patina ${name} `));
    expect(stderr).toBe('');
  });

  it.each([
    ['--help', /^Usage: patina /],
    ['help train', /^Usage: patina train /],
    ['--version', /^\d+\.\d+\.\d+\n$/],
    ['runs', /^mine +finished +2 /m],
    ['runs list', /^mine +finished +2 /m],
    ['runs --json', /"name":"mine"/],
    ['runs show', /^mine: finished\n/],
    ['recipes list', /^quickstart\n/m],
    ['recipes show quickstart', /^name: quickstart\n/m],
  ])('`patina %s` answers', async (line, answer) => {
    const { stdout, stderr } = await patina(line.split(' '));
    expect(stdout).toMatch(answer);
    expect(stderr).toBe('');
  });
});
