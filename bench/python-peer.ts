/** Python's torch in a process of its own, asked for one timing at a time, so that its runs and ours can take turns. */

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../src/base/native-path.js';

export class PythonPeer {
  private constructor(
    private readonly child: ChildProcessWithoutNullStreams,
    private readonly lines: AsyncIterator<string, undefined>,
    /** Version of its torch. */
    readonly version: string,
  ) {}

  /** Starts the `python3` on the PATH; `null` where there is none, or it has no torch. */
  static async start(threads: number): Promise<PythonPeer | null> {
    const script = join(packageRoot(), 'bench', 'joint_peer.py');
    const child = spawn('python3', ['-u', script, String(threads)]);
    child.on('error', () => undefined); // no python3: the lines below end at once
    child.stdin.on('error', () => undefined);
    child.stderr.resume();
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const version = await lines.next();
    return version.done === true ? null : new PythonPeer(child, lines, version.value);
  }

  /** Microseconds per call; `null` if Python has ended. */
  async time(device: string, name: string, calls: number): Promise<number | null> {
    this.child.stdin.write(`${device} ${name} ${calls}\n`);
    const { value, done } = await this.lines.next();
    return done === true ? null : Number(value);
  }

  stop(): void {
    this.child.stdin.end();
  }
}
