/** Finding and running other programs. */
import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * @typedef {object} Result
 * @property {number} status Exit status; 127 where the program could not be started, 124 where it took too long.
 * @property {string} stdout
 * @property {string} stderr
 */

/**
 * Runs a program to its end and collects what it prints; never throws.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {object} [options]
 * @param {string} [options.cwd]
 * @param {NodeJS.ProcessEnv} [options.env]
 * @param {string} [options.input] Text for its standard input.
 * @param {boolean} [options.show] Its standard output goes to our standard error as it comes.
 * @param {number} [options.timeout] Milliseconds; without it, as long as it takes.
 * @returns {Promise<Result>}
 */
export function run(command, args, { cwd, env = process.env, input, show = false, timeout } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env,
      stdio: [input === undefined ? 'ignore' : 'pipe', show ? 2 : 'pipe', 'pipe'],
    });
    let late = false;
    const timer =
      timeout === undefined
        ? undefined
        : setTimeout(() => {
            late = true;
            child.kill('SIGKILL');
          }, timeout);
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text) => (stderr += text));
    // A program that does not read its input closes the pipe: its exit status tells the rest.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    /** @param {number} status */
    const end = (status) => {
      clearTimeout(timer);
      resolve({ status, stdout, stderr });
    };
    child.on('error', (error) => {
      stderr += error.message;
      end(127);
    });
    child.on('close', (status) => end(late ? 124 : (status ?? 1)));
  });
}

/**
 * Every program of one of these names on the PATH, in the order of the PATH.
 *
 * @param {string[]} names
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[]}
 */
export function findAll(names, env) {
  const folders = (env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const paths = folders.flatMap((folder) => names.map((name) => join(folder, name)));
  return [...new Set(paths)].filter(isProgram);
}

/**
 * The first program of this name, or the file itself if `name` is a path.
 *
 * @param {string} name
 * @param {NodeJS.ProcessEnv} env
 * @returns {string | undefined}
 */
export function find(name, env) {
  if (name.includes('/')) return isProgram(name) ? name : undefined;
  return findAll([name], env)[0];
}

/** @param {string} path */
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * The last lines of a program's output, for an error message.
 *
 * @param {string} text
 * @param {number} lines
 */
export function tail(text, lines) {
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}

/**
 * The command that installs a program, by the package manager of this platform.
 *
 * @param {{ debian: string, macos: string }} commands
 */
export function installCommand({ debian, macos }) {
  return process.platform === 'darwin' ? macos : debian;
}

/**
 * Whether the first version number in a text is `oldest` or newer.
 *
 * @param {string} text For example `cmake version 3.25.1`.
 * @param {string} oldest For example `3.18`.
 */
export function isAtLeast(text, oldest) {
  const [major = NaN, minor = NaN] = numbers(text);
  const [oldestMajor = NaN, oldestMinor = NaN] = numbers(oldest);
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
}

/** @param {string} text */
function numbers(text) {
  return (/(\d+)\.(\d+)/.exec(text) ?? []).slice(1).map(Number);
}
