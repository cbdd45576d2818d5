/** How `patina serve` is used. */
import type { Command } from 'commander';

import { addModelOptions, collect, countValue, portValue } from '../arguments.js';
import type { ServeFlags } from '../serve.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .argument('<model>', 'folder, file or hub name of a model, in any layout, or a run')
    .option(
      '--adapter <[name=]adapter>',
      'also serve the model with this adapter or run over it, by a name of its own; may be repeated',
      collect,
    )
    .option('--name <name>', "what requests call the model; default: its folder's name")
    .option(
      '--host <address>',
      'address to listen on; any other than a loopback one lets other machines in',
      '127.0.0.1',
    )
    .option('--port <port>', 'port to listen on; 0: any that is free', portValue, 8000)
    .option('--key <key>', 'API key that clients send; default: one that is drawn and shown')
    .option('--files <folder>', 'let requests show pictures of this folder as file:///...')
    .option('--rows <n>', 'most answers at once', countValue, 16)
    .option('--waiting <n>', 'most requests that wait; more get 429', countValue, 64)
    .option(
      '--places <n>',
      "most tokens in the cache, answers times the longest; default: rows times the model's context",
      countValue,
    )
    .option(
      '--max-new-tokens <n>',
      'tokens of an answer where a request does not say',
      countValue,
      512,
    )
    .option('--timeout <seconds>', 'most time for a request', countValue, 600)
    .option('--max-body <MiB>', 'largest body of a request', countValue, 32)
    .option('--json', 'print one JSON object for each event: {type: "listening", url, key}');
  addModelOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  patina serve MODEL
  patina serve LLM --vision VISION --adapter runs/NAME --adapter old=runs/OLD
  curl http://127.0.0.1:8000/v1/models -H "Authorization: Bearer KEY"

Ctrl-C takes no further request and finishes those that there are; a second one ends at once.`,
    )
    .action(async (model: string, flags: ServeFlags) => {
      const { serveCommand } = await import('../serve.js');
      await serveCommand(model, flags, session);
    });
}
