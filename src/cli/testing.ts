/** For tests of commands: the command line within this process, and what it wrote. */
import { main } from './main.js';

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function patina(...args: readonly string[]): Promise<Ended> {
  let [out, err] = ['', ''];
  const code = await main(args, {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
  });
  return { code, out, err };
}
