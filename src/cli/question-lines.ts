/** Questions of a chat, line by line: typed at a prompt, or read from a file or a pipe. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface TerminalOptions {
  input: NodeJS.ReadableStream;
  /** Where the prompt and what is typed appear. */
  output: NodeJS.WritableStream;
  prompt: string;
  /** What to say on Ctrl-C where nothing is typed. */
  hint: string;
}

/**
 * Lines typed at a terminal, with editing and a history. Between two lines the terminal is as it was before: Ctrl-C then is a
 * signal, for whoever answers, and what is typed ahead waits.
 */
export async function* terminalLines({
  input,
  output,
  prompt,
  hint,
}: TerminalOptions): AsyncGenerator<string, void, undefined> {
  let history: string[] = [];
  for (;;) {
    const lines: string[] = [];
    const reader = createInterface({ input, output, prompt, history, terminal: true });
    reader.on('history', (longer) => (history = longer));
    reader.on('line', (line) => lines.push(line));
    reader.on('SIGINT', () => {
      if (reader.line === '') output.write(`\n${hint}\n`);
      else output.write('^C\n');
      reader.write(null, { ctrl: true, name: 'e' });
      reader.write(null, { ctrl: true, name: 'u' });
      reader.prompt();
    });
    reader.prompt();
    const closed = once(reader, 'close');
    await Promise.race([once(reader, 'line'), closed]);
    reader.close();
    if (lines.length === 0) return; // Ctrl-D
    yield* lines; // several where they were pasted
  }
}

/** Lines of a file or a pipe. */
export async function* pipedLines(
  input: NodeJS.ReadableStream,
): AsyncGenerator<string, void, undefined> {
  yield* createInterface({ input, terminal: false });
}
