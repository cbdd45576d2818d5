#!/usr/bin/env node
/** The `patina` command: checks what cannot be checked later, then hands over to the compiled command line. */
import { existsSync } from 'node:fs';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const main = new URL('../dist/src/cli/main.js', import.meta.url);
const packages = new URL('../node_modules/commander/package.json', import.meta.url);

if (major < 20 || (major === 20 && minor < 19)) {
  fail(
    `Patina needs Node 20.19 or newer; this is ${process.versions.node}.`,
    'E_NODE_OLD',
    'Install a newer Node (https://nodejs.org).',
  );
} else if (!existsSync(main) || !existsSync(packages)) {
  fail('Patina is not set up.', 'E_NOT_SET_UP', 'Run `npm run setup` in the folder of Patina.');
} else {
  const { main: run } = await import(main.href);
  process.exitCode = await run(process.argv.slice(2));
}

function fail(message, code, hint) {
  process.stderr.write(`error: ${message}\ncode: ${code}\nhint: ${hint}\n`);
  process.exitCode = 3;
}
