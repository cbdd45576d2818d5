/**
 * What the planner predicts beside what a card measures: memory in tensors, reserved, of the whole process, and seconds an update, a row for
 * each configuration of a file.
 *
 *     node dist/bench/plan.js CONFIGS.json [--results FILE.jsonl] [--until SECONDS] [--device cuda|cpu]
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
 * updates   that are run, two at least (3); seconds are the median of all but the first
 * ranks     processes, each with a card of its own (1)
 * limitGiB  that a process may take; the row then says whether it went through (null)
 *
 * Each row is measured by processes of its own, and what a card says in it counts for later plans (docs/planning.md). With `--results` a
 * row that the file already has from the same configuration is not measured again, and new ones are added to it. No row begins after so
 * many seconds (no end). A configuration that cannot be planned is told with the reason, and the others go on.
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
import { UsageError } from '../src/base/errors.js';
import { launchRanks, rendezvous } from '../src/parallel/index.js';
import { chooseDevice } from '../src/torch/index.js';
import { runBench } from './command.js';
import { keepRow } from './plan-calibration.js';
import { readConfigs, type PlanConfig } from './plan-config.js';
import { measureAlone, measureRank, predict, type Measured } from './plan-row.js';
import { isFailed, summary, type PlanRow } from './plan-summary.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    results: { type: 'string' },
    until: { type: 'string', default: 'Infinity' },
    device: { type: 'string', default: 'cuda' },
    // Of a process that measures: its row, and the file for its answer.
    row: { type: 'string' },
    answer: { type: 'string' },
  },
});

await runBench(flags.row === undefined ? compare : () => measure(flags.row!, flags.answer!));

async function compare(): Promise<void> {
  const configs = readConfigs(positionals[0]);
  chooseDevice(flags.device); // what is wrong with it is so for all rows
  const rows = flags.results === undefined ? [] : readRows(flags.results);
  const known = new Set(rows.map(({ config }) => JSON.stringify(config)));
  for (const config of configs) {
    if (known.has(JSON.stringify(config))) continue;
    if (performance.now() / 1000 > Number(flags.until)) {
      console.error(`no time left for: ${config.name}`);
      continue;
    }
    const row = await rowOf(config);
    rows.push(row);
    const line = JSON.stringify(row);
    console.log(line);
    if (isFailed(row)) continue; // to be tried again
    if (flags.results !== undefined) appendFileSync(flags.results, `${line}\n`);
    await keepRow(row, flags.device).catch((error: unknown) => {
      console.error(`not kept for later plans: ${messageOf(error)}`);
    });
  }
  console.error(summary(rows));
  if (rows.some(isFailed)) process.exitCode = 1;
}

/** A configuration that cannot be planned is one of many: the others go on. */
async function rowOf(config: PlanConfig): Promise<PlanRow> {
  const { name } = config;
  try {
    const predicted = await predict(config, flags.device);
    return { name, predicted, measured: await measureApart(config), config };
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
    await world.close(error);
    throw error;
  }
}
