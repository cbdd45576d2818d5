/** What a command is given by whoever runs it. */

/** Where a command writes, and how it ends. */
export interface Session {
  /** For what was asked for. */
  readonly stdout: Output;
  /** For progress, warnings and errors. */
  readonly stderr: Output;
  /** A command that did its work, but found something wrong, sets it. @default 0 */
  exitCode: number;
}

export interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}
