import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

import { DataError, NonFiniteError, OutOfMemoryError } from '../base/errors.js';
import { packageRoot } from '../base/native-path.js';
import { COMMANDS, type CommandEntry, type CommandModule } from './commands.js';
import { main } from './main.js';
import { printError } from './print-error.js';

/** Runs the command line and collects what it writes. */
async function run(
  args: string[],
  commands: readonly CommandEntry[] = COMMANDS,
): Promise<{ code: number; stdout: string; stderr: string }> {
  let stdout = '';
  let stderr = '';
  const code = await main(args, {
    commands,
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
  });
  return { code, stdout, stderr };
}

function command(name: string, define: CommandModule['define']): CommandEntry {
  return { name, summary: `Try ${name}`, load: () => Promise.resolve({ define }) };
}

describe('patina', () => {
  it('lists its commands without loading them', async () => {
    const load = (): never => {
      throw new Error('loaded');
    };
    const { code, stdout, stderr } = await run(
      ['--help'],
      COMMANDS.map((entry) => ({ ...entry, load })),
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const { name, summary } of COMMANDS) {
      expect(stdout).toMatch(new RegExp(`^  ${name} .*${summary}`, 'm'));
    }
  });

  it('prints the help of a command', async () => {
    for (const args of [
      ['doctor', '--help'],
      ['help', 'doctor'],
    ]) {
      const { code, stdout } = await run(args);
      expect({ code, stdout }).toEqual({
        code: 0,
        stdout: expect.stringMatching(/Usage: patina doctor \[options\](.|\n)*--json/) as string,
      });
    }
  });

  it('prints its version', async () => {
    const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
      version: string;
    };
    expect(await run(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  it.each([
    [['docter'], "unknown command 'docter'", 'Did you mean doctor?'],
    [['frobnicate'], "unknown command 'frobnicate'", 'See `patina --help`.'],
    [
      ['help', 'docter'],
      "unknown command 'docter'",
      'Choose a command; `patina --help` lists them.',
    ],
    [['doctor', '--jsn'], "unknown option '--jsn'", 'Did you mean --json?'],
    [['--verion'], "unknown option '--verion'", 'Did you mean --version?'],
    [['doctor', 'me', 'too'], 'too many arguments', 'See `patina doctor --help`.'],
    [[], 'no command was given', 'Choose a command; `patina --help` lists them.'],
  ])('%j is a wrong use and exits 2', async (args, message, hint) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(`error: ${message}`);
    expect(stderr).toContain(`code: E_USAGE\nhint: ${hint}\n`);
  });

  const ends: [Error, number, string][] = [
    [
      new DataError('bad', { code: 'E_RECORD', hint: 'Mend it.' }),
      4,
      'error: bad\ncode: E_RECORD\nhint: Mend it.\n',
    ],
    [new OutOfMemoryError('full', { code: 'E_OOM', hint: 'Less.' }), 5, 'error: full\n'],
    [new NonFiniteError('nan', { code: 'E_NAN', hint: 'Look.' }), 6, 'error: nan\n'],
    [new TypeError('a bug'), 1, 'error: a bug\ncode: E_UNEXPECTED\nhint: Run it again with'],
  ];
  it.each(ends)('ends as the error that a command throws says: %s', async (error, code, text) => {
    const fails = command('fails', (self) => {
      self.action(() => Promise.reject(error));
    });
    const { stderr, ...rest } = await run(['fails'], [fails]);
    expect(rest).toEqual({ code, stdout: '' });
    expect(stderr.startsWith(text)).toBe(true);
  });

  it('ends with the exit code that a command sets, and hands it both outputs', async () => {
    const odd = command('odd', (self, session) => {
      self.argument('<word>').action((word: string) => {
        session.stdout.write(word);
        session.stderr.write('working');
        session.exitCode = 3;
      });
    });
    expect(await run(['odd', 'answer'], [odd])).toEqual({
      code: 3,
      stdout: 'answer',
      stderr: 'working',
    });
  });

  it('shows what is thrown but is no error', () => {
    let text = '';
    printError({ odd: 1 }, { write: (more) => (text += more) });
    expect(text).toMatch(/^error: { odd: 1 }\ncode: E_UNEXPECTED\n/);
  });

  it('shows stacks and causes in debug mode', () => {
    let text = '';
    const error = new DataError('outer', {
      code: 'E_X',
      hint: 'Mend.',
      cause: new Error('underneath'),
    });
    printError(error, { write: (more) => (text += more) }, { debug: true });
    expect(text).toMatch(
      /^error: outer\ncode: E_X\nhint: Mend.\nDataError: outer\n {4}at (.|\n)*underneath/,
    );
  });
});

describe('bin/patina.js', () => {
  const execute = promisify(execFile);

  it('is executable and says what to do where nothing is set up', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'patina-bin-'));
    try {
      mkdirSync(join(folder, 'bin'));
      writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
      cpSync(join(packageRoot(), 'bin/patina.js'), join(folder, 'bin/patina.js'));
      await expect(execute(join(folder, 'bin/patina.js'), ['doctor'])).rejects.toMatchObject({
        code: 3,
        stdout: '',
        stderr:
          'error: Patina is not set up.\ncode: E_NOT_SET_UP\nhint: Run `npm run setup` in the folder of Patina.\n',
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
