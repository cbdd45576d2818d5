/** A Python of its own that answers one line at a time, so that its runs and ours can take turns. */

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../src/base/native-path.js';

export class PythonPeer {
  private constructor(
    private readonly child: ChildProcessWithoutNullStreams,
    private readonly lines: AsyncIterator<string, undefined>,
    /** What it says of itself: its first line. */
    readonly facts: string,
  ) {}

  /** Starts a script of `bench/`; `null` where there is no such Python, or it lacks what the script imports. */
  static async start(
    script: string,
    args: readonly string[],
    { python = 'python3' }: { python?: string } = {},
  ): Promise<PythonPeer | null> {
    const child = spawn(python, ['-u', join(packageRoot(), 'bench', script), ...args]);
    child.on('error', () => undefined); // no such Python: the lines below end at once
    child.stdin.on('error', () => undefined);
    child.stderr.pipe(process.stderr);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const facts = await lines.next();
    return facts.done === true ? null : new PythonPeer(child, lines, facts.value);
  }

  /** Its answer to one line. */
  async ask(line: string): Promise<string> {
    this.child.stdin.write(`${line}\n`);
    const { value, done } = await this.lines.next();
    if (done === true) throw new Error('The Python of the peer ended; see its message above.');
    return value;
  }

  stop(): void {
    this.child.stdin.end();
  }
}
