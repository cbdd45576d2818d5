#!/usr/bin/env node
/** `npm run setup`: makes a clone ready to work, in one idempotent step. */

const USAGE = `usage: npm run setup [-- OPTIONS]

Installs the npm packages, finds or downloads libtorch, builds the native addon and compiles the TypeScript sources.
Where nothing is to do it takes a fraction of a second.

libtorch is, in this order: the folder that PATINA_LIBTORCH names; the torch of the active Python, if it suits; a copy
in .patina/, downloaded with pip (with the CUDA libraries where there is a GPU). The choice is recorded and stays.

options:
  --again   choose libtorch again and build everything anew
  --cpu     no CUDA libraries, even where there is a GPU
  --quiet   print warnings and errors only
  --check   change nothing; print what is there and what is missing, as one JSON object
  --help    print this help

environment:
  PATINA_LIBTORCH   folder of a libtorch 2.9 to 2.15 (it holds include and lib)
  CXX               the C++ compiler
  PATINA_DEBUG=1    show the stack of an error
`;

const OPTIONS = ['--again', '--cpu', '--quiet', '--check', '--help'];
const OLDEST_NODE = [20, 19];

/** @param {string[]} args */
async function main(args) {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
    return fail({
      message: `Patina needs Node ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node}.`,
      code: 'E_NODE_OLD',
      hint: 'Install a newer Node (https://nodejs.org).',
    });
  }
  const unknown = args.find((arg) => !OPTIONS.includes(arg));
  if (unknown !== undefined) {
    return fail({
      message: `unknown option '${unknown}'`,
      code: 'E_USAGE',
      hint: `The options are ${OPTIONS.join(', ')}.`,
      exitCode: 2,
    });
  }
  if (args.includes('--help')) {
    process.stdout.write(USAGE);
    return 0;
  }
  // Imported only now: older versions of Node may not be able to read them.
  const [
    { dirname },
    { fileURLToPath },
    { setUp },
    { check },
    { Report },
    { asSetupError, SetupError },
  ] = await Promise.all([
    import('node:path'),
    import('node:url'),
    import('./main.js'),
    import('./check.js'),
    import('./report.js'),
    import('./errors.js'),
  ]);
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  try {
    if (args.includes('--check')) {
      process.stdout.write(`${JSON.stringify(await check(root, process.env), null, 2)}\n`);
      return 0;
    }
    await setUp({
      root,
      report: new Report({ quiet: args.includes('--quiet') }),
      again: args.includes('--again'),
      cpu: args.includes('--cpu'),
    });
    return 0;
  } catch (error) {
    const typed = asSetupError(error);
    if (typed instanceof SetupError) return fail(typed);
    throw error;
  }
}

/**
 * @param {{ message: string, code: string, hint: string, exitCode?: number, stack?: string }} error
 */
function fail({ message, code, hint, exitCode = 3, stack }) {
  const text = process.env['PATINA_DEBUG'] && stack ? stack : message;
  process.stderr.write(`error: ${text}\ncode: ${code}\nhint: ${hint}\n`);
  return exitCode;
}

process.exitCode = await main(process.argv.slice(2));
