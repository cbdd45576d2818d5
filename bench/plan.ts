/**
 * What the planner predicts beside what a card measures: memory in tensors, reserved, of the whole process, and seconds an update, a row for
 * each configuration of a file.
 *
 *     node dist/bench/plan.js CONFIGS.json [--results FILE.jsonl] [--until SECONDS] [--together GiB] [--device cuda|cpu]
 *
 * The file is a list of configurations:
 *
 *     {"name": "full, 4 layers", "model": {"layers": 4, "hidden": 4096}, "set": {"train.decoder": "full"},
 *      "batch": [{"text": 700, "images": 1}], "updates": 3, "ranks": 1, "limitGiB": null}
 *
 * model     of the LLaVA-Llama-3-8B shape so many decoder blocks, so wide (32, 4096); "text": true is its decoder alone
 * set       fields of the recipe by dotted names, over full training of decoder and projector; with `batchTokens` the records of the
 *           batch are those of an update, unless `effectiveBatch` says how many these are
 * batch     the records of a micro-batch: tokens of text, of which the first 20 are not learned, pictures (0), and how many there are
 *           of the kind ("count": 1)
 * between   what comes after the first update: {"validation": [records as in batch], "probes": [{"text": 30, "images": 1,
 *           "newTokens": 64}]}, and always a checkpoint as the recipe has it, without its files; left out, what `set` says of validation
 *           and probes, validation on the batch; else nothing
 * updates   that are run at least (3); the first three are not timed, and more follow for about a second
 * ranks     processes, each with a card of its own (1)
 * limitGiB  that a process may take; the row then says whether it went through (null)
 *
 * Each row is measured by processes of its own, and what a card says in it counts for later plans (docs/planning.md). With `--results` a
 * row that the file already has from the same configuration is not measured again, and new ones are added to it. No row begins after so
 * many seconds (no end). With `--together` rows with a limit share a card, as many at once as their limits, and a GiB each for what lies beside
 * the allocator, leave within so many GiB of it (0: one at a time); a row that was not alone tells neither seconds nor what the process took
 * in all. A configuration that is none, or cannot be planned, is told with the reason, and the others go on.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { OutOfMemoryError, UsageError } from '../src/base/errors.js';
import { launchRanks, rendezvous } from '../src/parallel/index.js';
import { chooseDevice } from '../src/torch/index.js';
import { amountOf, runBench } from './command.js';
import { keepRow } from './plan-calibration.js';
import { readConfigs, type PlanConfig } from './plan-config.js';
import {
  measureAlone,
  measureRank,
  OUT_OF_MEMORY,
  predict,
  type Measured,
  type SharedFigures,
} from './plan-row.js';
import { isFailed, summary, type PlanRow } from './plan-summary.js';
import { sideBySide } from './side-by-side.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    results: { type: 'string' },
    until: { type: 'string', default: 'Infinity' },
    together: { type: 'string', default: '0' },
    device: { type: 'string', default: 'cuda' },
    // Of a process that measures: its row, and the file for its answer.
    row: { type: 'string' },
    answer: { type: 'string' },
  },
});

/** What nobody knows of one among several on a card. */
const SHARED = { total: null, context: null, seconds: null } satisfies Partial<SharedFigures>;

/** One at a time: there is one trace of tensors without memory. */
let planning: Promise<unknown> = Promise.resolve();

await runBench(flags.row === undefined ? compare : () => measure(flags.row!, flags.answer!));

async function compare(): Promise<void> {
  const [until, room] = [amountOf('until', flags.until), amountOf('together', flags.together)];
  const { good: configs, bad } = readConfigs(positionals[0]);
  chooseDevice(flags.device); // what is wrong with it is so for all rows
  const rows = flags.results === undefined ? [] : readRows(flags.results);
  const known = new Set(rows.map(({ config }) => JSON.stringify(config)));
  // Before hours go by.
  for (const { name, faults, given } of bad) {
    const row: PlanRow = { name, predicted: null, measured: { failed: faults }, config: given };
    rows.push(row);
    console.log(JSON.stringify(row));
  }
  const left = await sideBySide(
    configs.filter((config) => !known.has(JSON.stringify(config))),
    {
      room,
      takes: ({ limitGiB, ranks }) => (limitGiB === null || ranks > 1 ? Infinity : limitGiB + 1),
      mayBegin: () => performance.now() / 1000 <= until,
      run: async (config, isShared) => {
        const row = await rowOf(config, isShared);
        rows.push(row);
        const line = JSON.stringify(row);
        console.log(line);
        if (isFailed(row)) return; // to be tried again
        if (flags.results !== undefined) appendFileSync(flags.results, `${line}\n`);
        await keepRow(row, flags.device).catch((error: unknown) => {
          console.error(`not kept for later plans: ${messageOf(error)}`);
        });
      },
    },
  );
  if (left.length > 0) {
    console.error(`no time left for ${left.length}: ${left.map(({ name }) => name).join('; ')}`);
  }
  console.error(summary(rows));
  if (rows.some(isFailed)) process.exitCode = 1;
}

/** A configuration that cannot be planned is one of many: the others go on. */
async function rowOf(config: PlanConfig, isShared: () => boolean): Promise<PlanRow> {
  const { name } = config;
  try {
    const asked = planning.then(() => predict(config, flags.device));
    planning = asked.catch(() => undefined);
    const predicted = await asked;
    const measured = await measureApart(config);
    const isWhole = 'failed' in measured || !isShared();
    return { name, predicted, measured: isWhole ? measured : { ...measured, ...SHARED }, config };
  } catch (error) {
    return { name, predicted: null, measured: { failed: messageOf(error) }, config };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function readRows(file: string): PlanRow[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.flatMap((line, i) => {
    if (line === '') return [];
    try {
      return [JSON.parse(line) as PlanRow];
    } catch (cause) {
      throw new UsageError(`${file}:${i + 1}: no row of an earlier call`, {
        code: 'E_USAGE',
        hint: 'Remove the line, and the row is measured again.',
        cause,
      });
    }
  });
}

/** By processes of its own, one for each rank; the first rank answers for all. */
async function measureApart(config: PlanConfig): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), 'patina-plan-'));
  const answer = join(folder, 'answer.json');
  const args = ['--device', flags.device, '--answer', answer, '--row', JSON.stringify(config)];
  const command = [process.execPath, process.argv[1]!, ...args];
  try {
    const failure = config.ranks === 1 ? await runAlone(command) : await runRanks(command, config);
    if (existsSync(answer)) return JSON.parse(readFileSync(answer, 'utf8')) as Measured;
    return { failed: failure };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function runAlone([program, ...args]: readonly string[]): Promise<string> {
  const child = spawn(program!, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  return `the process ended with ${signal ?? `code ${String(code)}`}`;
}

async function runRanks(command: readonly string[], { ranks }: PlanConfig): Promise<string> {
  const { failure, code } = await launchRanks({ command, processes: ranks });
  return failure ?? `the ranks ended with code ${code}`;
}

async function measure(row: string, answer: string): Promise<void> {
  const config = JSON.parse(row) as PlanConfig;
  const write = (measured: Measured): void => writeFileSync(answer, JSON.stringify(measured));
  if (config.ranks === 1) {
    write(await measureAlone(config, flags.device));
    return;
  }
  const world = await rendezvous();
  try {
    const measured = await measureRank(config, world);
    if (world.rank === 0) write(measured);
    await world.close();
  } catch (error) {
    // Of one rank's memory the others know nothing: they are told to end.
    if (error instanceof OutOfMemoryError) write({ failed: OUT_OF_MEMORY });
    await world.close(error);
    throw error;
  }
}
