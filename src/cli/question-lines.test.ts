import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';

import { terminalLines } from './question-lines.js';

describe('lines typed at a terminal', () => {
  it('come one by one, pasted ones together, with a history; Ctrl-C clears, Ctrl-D ends', async () => {
    const input = new PassThrough();
    const output = new PassThrough();
    const lines = terminalLines({ input, output, prompt: '> ', hint: '(leave by Ctrl-D)' });
    const next = async (keys: string): Promise<string | undefined> => {
      const line = lines.next();
      await new Promise(setImmediate);
      input.write(keys);
      const { value } = await line;
      return value ?? undefined;
    };
    expect(await next('hello\r')).toBe('hello');
    expect(await next('wrong\u0003right\r')).toBe('right');
    expect(await next('\u001b[A\u001b[A\r')).toBe('hello');
    expect(await next('a\rb\r')).toBe('a');
    expect((await lines.next()).value).toBe('b');
    expect(await next('\u0003fine\r')).toBe('fine');
    expect(await next('\u0004')).toBeUndefined();
    expect(String(output.read())).toContain('(leave by Ctrl-D)');
  });
});
