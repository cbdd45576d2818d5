/** How far loading a model is, on one line of a terminal; elsewhere only notices. */
import { formatBytes, formatCount } from '../base/format.js';
import type { HubEvent } from '../base/hub/resolve.js';
import type { Output } from './session.js';

const CLEAR = '\r\u001b[K';

export class LoadProgress {
  readonly #output: Output;
  #line = '';

  constructor(output: Output) {
    this.#output = output;
  }

  download(event: HubEvent): void {
    if (event.type === 'notice') {
      this.notice(event.message);
      return;
    }
    const { repository, bytes, totalBytes, files, totalFiles } = event;
    const far = `${formatBytes(bytes)} of ${formatBytes(totalBytes)}`;
    this.#show(`Downloading ${repository}: ${far}, ${files} of ${totalFiles} files`);
  }

  /** A line of its own. */
  notice(message: string): void {
    this.end();
    this.#output.write(`${message}\n`);
  }

  read(done: number, total: number): void {
    this.#show(`Loading ${formatBytes(total)} of weights: ${Math.floor((100 * done) / total)} %`);
  }

  /** How much of something is done. */
  part(what: string, done: number, total: number): void {
    const share = total === 0 ? 100 : Math.floor((100 * done) / total);
    this.#show(`Checking ${what}: ${formatCount(done)} of ${formatCount(total)}, ${share} %`);
  }

  /** What is planned, of several. */
  plan(done: number, change: string): void {
    this.#show(`Plan ${done + 1}: ${change}`);
  }

  /** Removes the line. */
  end(): void {
    if (this.#line !== '') this.#output.write(CLEAR);
    this.#line = '';
  }

  #show(line: string): void {
    if (this.#output.isTTY !== true || line === this.#line) return;
    this.#line = line;
    this.#output.write(`${CLEAR}${line}`);
  }
}
