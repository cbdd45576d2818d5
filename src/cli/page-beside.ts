/** The page of runs in a process of its own beside training, which keeps its thread busy. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

import { packageRoot } from '../base/native-path.js';
import type { Output } from './session.js';

export class PageBeside implements AsyncDisposable {
  private child: ChildProcess | undefined;

  /** @param output is told the address */
  constructor(private readonly output: Output) {}

  /** Shows the runs beside `run`, and that one first. */
  open(run: string): void {
    const args = ['dashboard', dirname(run), '--port', '0', '--json'];
    const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'patina.js'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // Ctrl-C in the terminal is for training; the page ends with it.
      detached: true,
    });
    this.child = child;
    createInterface(child.stdout!).once('line', (line) => {
      const { url } = JSON.parse(line) as { url: string };
      this.output.write(`page: ${url}#${encodeURIComponent(basename(run))}\n`);
    });
    let said = '';
    child.stderr!.on('data', (data) => (said += String(data)));
    child.once('exit', (code) => {
      if (code) this.output.write(`warning: the page has ended: ${said.trim()}\n`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}
