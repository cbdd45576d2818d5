/** A file of JSON Lines that another process appends to, read from where the last look ended. */
import { open, stat } from 'node:fs/promises';

import { errorCode } from '../../base/system-error.js';

export class GrowingFile {
  /** Why it cannot be read. */
  fault: string | undefined;
  private offset = 0;
  private identity: string | undefined;
  private buffer = Buffer.alloc(1 << 20);

  constructor(private readonly path: string) {}

  /** Whether another file stands where this was read: that of a run which was begun anew under its name. */
  async isAnother(): Promise<boolean> {
    const facts = await stat(this.path).catch(() => undefined);
    if (facts === undefined) return false;
    const before = this.identity;
    // A number of a file that is gone is soon given again.
    this.identity = `${facts.ino} ${facts.birthtimeMs}`;
    return (before !== undefined && before !== this.identity) || facts.size < this.offset;
  }

  /** The next look reads it from its beginning. */
  rewind(): void {
    this.offset = 0;
  }

  /** What has come since; `undefined` for a line that is no JSON. A torn last line waits for its end. */
  async *lines(): AsyncGenerator {
    try {
      yield* this.read();
      this.fault = undefined;
    } catch (error) {
      const code = errorCode(error);
      this.fault =
        code === 'ENOENT' ? undefined : `${this.path} cannot be read (${code ?? String(error)}).`;
    }
  }

  private async *read(): AsyncGenerator {
    const { size } = await stat(this.path);
    if (size <= this.offset) return;
    const file = await open(this.path);
    try {
      for (;;) {
        const { buffer } = this;
        const { bytesRead } = await file.read(buffer, 0, buffer.length, this.offset);
        // Only whole lines are taken, so that no character is torn either.
        const end = buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
        for (const line of buffer.toString('utf8', 0, end).split('\n')) {
          if (line !== '') yield parsed(line);
        }
        this.offset += end;
        if (bytesRead < buffer.length) return;
        if (end === 0) this.buffer = Buffer.alloc(2 * buffer.length);
      }
    } finally {
      await file.close();
    }
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
