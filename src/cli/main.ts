/**
 * The command line: parses, runs one command, and turns how it ended into an exit code.
 *
 * What was asked for goes to standard output; progress, warnings and errors go to standard error.
 */
import { Command, CommanderError } from 'commander';

import { UsageError } from '../base/errors.js';
import { packageVersion } from '../base/native-path.js';
import { COMMANDS, type CommandEntry } from './commands.js';
import { exitCodeOf, printError } from './print-error.js';
import { openSession, type Output, type Session } from './session.js';

/**
 * Runs `patina` with these arguments and returns its exit code: 0 ok, 1 unexpected, 2 usage or recipe, 3 environment,
 * 4 data, 5 out of memory, 6 non-finite loss, 130 interrupted.
 */
export async function main(
  args: readonly string[],
  {
    commands = COMMANDS,
    stdout = process.stdout,
    stderr = process.stderr,
  }: { commands?: readonly CommandEntry[]; stdout?: Output; stderr?: Output } = {},
): Promise<number> {
  const session = openSession(stdout, stderr);
  try {
    const program = await build(args, commands, session);
    await program.parseAsync([...args], { from: 'user' });
    return session.exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help, --version
    const shown =
      error instanceof CommanderError ? usageError(error, args, helpFor(args, commands)) : error;
    session.exitCode = exitCodeOf(shown);
    printError(shown, session.stderr);
    return session.exitCode;
  }
}

/** The program with every command by name, and the one that `args` name in full. */
async function build(
  args: readonly string[],
  commands: readonly CommandEntry[],
  session: Session,
): Promise<Command> {
  const program = new Command('patina')
    .description('Fine-tune LLaVA-class vision-language models.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .configureOutput({
      writeOut: (text) => session.stdout.write(text),
      writeErr: (text) => session.stderr.write(text),
      // Errors are printed in one form, by `main`.
      outputError: () => undefined,
    })
    .exitOverride();
  const named = new Set(args);
  for (const { name, summary, load } of commands) {
    const command = program.command(name).summary(summary).description(`${summary}.`);
    if (named.has(name)) (await load()).define(command, session);
  }
  return program;
}

/** How to ask for the help of the command that `args` begin with. */
function helpFor([first]: readonly string[], commands: readonly CommandEntry[]): string {
  return commands.some(({ name }) => name === first) ? `patina ${first!} --help` : 'patina --help';
}

/** Commander's `error: unknown command 'trian'\n(Did you mean train?)` as an error of ours. */
function usageError(error: CommanderError, args: readonly string[], help: string): UsageError {
  if (error.code === 'commander.help') {
    const isUnknown = args[0] === 'help';
    const after = args.length === 0 ? '' : ` after ${args.join(' ')}`;
    const message = isUnknown
      ? `unknown command '${args.at(-1)!}'`
      : `no command was given${after}`;
    return new UsageError(message, {
      code: 'E_USAGE',
      hint: `Choose a command; \`${isUnknown ? 'patina --help' : help}\` lists them.`,
    });
  }
  const [message = '', suggestion] = error.message.split('\n');
  return new UsageError(message.replace(/^error: /, ''), {
    code: 'E_USAGE',
    hint: suggestion?.replace(/^\((.*)\)$/, '$1') ?? `See \`${help}\`.`,
  });
}
