/**
 * Checkpoints read by the restricted interpreter against what they hold, and hostile ones against its refusal: any
 * folder of the shape of `test/fixtures/pickle`. Every file is read in an empty folder, which must stay empty.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { z } from 'zod';

import { DataError, PatinaError } from '../src/base/errors.js';
import { errorCode } from '../src/base/system-error.js';
import { readCheckpoint } from '../src/formats/pickle/read.js';
import { readSafetensors } from '../src/formats/safetensors/header.js';
import { encodeSafetensors } from '../src/formats/safetensors/write.js';
import { readDense, readSpan, type StoredTensor } from '../src/formats/stored.js';
import { parityArguments } from './arguments.js';
import { describeContent, type PickleContent } from './pickle-content.js';
import { Report } from './report.js';
import { sameJson } from './same-json.js';

const expectedShape = z.object({
  files: z.record(
    z.string(),
    z.object({
      kind: z.enum(['ok', 'refuse']),
      either: z.boolean().optional(),
      content: z.string().optional(),
      tensors: z.string().optional(),
    }),
  ),
});
type Expected = z.infer<typeof expectedShape>['files'][string];

/** What became of one file. */
interface Outcome {
  /** What was read, where the expectation names content to compare. */
  content?: PickleContent;
  refusal?: Refusal;
  seconds: number;
}

/** What an error says. The error itself would hold on to all that its reader had made so far. */
interface Refusal {
  readonly isTyped: boolean;
  readonly code: string | undefined;
  readonly message: string;
}

/** A view may stand for more elements than any disk holds. */
const MAX_TENSOR_BYTES = 256 * 2 ** 20;
const MAX_SECONDS = 10;
const MAX_GROWTH = 512;
/** Bytes of garbage that are worth the time to collect them. */
const MUCH = 64 * 2 ** 20;

export async function run(argv: string[]): Promise<boolean> {
  const { path: folder, values } = parityArguments(argv, 'pickle', { out: { type: 'string' } });
  const root = resolve(folder);
  const out = values.out === undefined ? undefined : resolve(values.out);
  const files = await readExpected(root);
  const report = new Report();
  const outcomes = await readAll(root, files, report);
  if (out !== undefined) await writeAll(out, files, outcomes);
  for (const [file, expected] of files) {
    await compare(root, file, expected, outcomes.get(file)!, report);
  }
  return report.print();
}

/** Reads every file in an empty working folder and reports what must not have happened. */
async function readAll(
  root: string,
  files: ReadonlyMap<string, Expected>,
  report: Report,
): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  const before = process.cwd();
  const empty = await mkdtemp(join(tmpdir(), 'patina-pickle-'));
  const collectGarbage = garbageCollector();
  const memory = process.memoryUsage.rss();
  let highest = memory;
  process.chdir(empty);
  try {
    for (const [file, expected] of files) {
      // What one file leaves behind is not the growth of the next.
      if (process.memoryUsage.rss() - memory > MUCH) collectGarbage();
      outcomes.set(file, await readOne(join(root, file), expected));
      highest = Math.max(highest, process.memoryUsage.rss());
    }
    const made = await readdir(empty);
    report.add({
      quantity: 'files left in the working folder',
      error: made.length,
      note: made.join(' '),
    });
  } finally {
    process.chdir(before);
    await rm(empty, { recursive: true });
  }
  const polluted = Object.keys(Object.getPrototypeOf({}) as object).length;
  report.add({ quantity: 'keys added to Object.prototype', error: polluted });
  const seconds = Math.max(0, ...[...outcomes.values()].map((outcome) => outcome.seconds));
  report.add({ quantity: 'slowest file, seconds', error: seconds, tolerance: MAX_SECONDS });
  const growth = (highest - memory) / 2 ** 20;
  report.add({ quantity: 'growth of memory, MiB', error: growth, tolerance: MAX_GROWTH });
  return outcomes;
}

async function readOne(path: string, expected: Expected): Promise<Outcome> {
  const start = performance.now();
  const outcome: Outcome = { seconds: 0 };
  try {
    const value = await readCheckpoint(path);
    outcome.seconds = (performance.now() - start) / 1000;
    if (expected.content !== undefined || expected.tensors !== undefined) {
      outcome.content = describeContent(value, path);
    }
  } catch (error) {
    outcome.refusal = refusalOf(error);
    outcome.seconds = (performance.now() - start) / 1000;
  }
  return outcome;
}

function refusalOf(error: unknown): Refusal {
  return {
    isTyped: error instanceof PatinaError,
    code: errorCode(error),
    message: error instanceof Error ? error.message : 'no error object',
  };
}

/** Node keeps its collector behind a flag. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** `results.json`, and for what was loaded the files that the expectation names, in its form. */
async function writeAll(
  out: string,
  files: ReadonlyMap<string, Expected>,
  outcomes: ReadonlyMap<string, Outcome>,
): Promise<void> {
  const results: [string, { loaded: boolean; code: string | null }][] = [];
  const write = async (path: string, content: string | Uint8Array): Promise<void> => {
    await mkdir(dirname(join(out, path)), { recursive: true });
    await writeFile(join(out, path), content);
  };
  for (const [file, expected] of files) {
    const { content, refusal } = outcomes.get(file)!;
    results.push([file, { loaded: refusal === undefined, code: refusal?.code ?? null }]);
    if (content === undefined) continue;
    if (expected.content !== undefined) await write(expected.content, content.json);
    if (expected.tensors !== undefined) await write(expected.tensors, await encodeTensors(content));
  }
  await write('results.json', `${JSON.stringify(Object.fromEntries(results), null, 1)}\n`);
}

async function encodeTensors({ tensors }: PickleContent): Promise<Uint8Array> {
  const dense: (StoredTensor & { data: Uint8Array })[] = [];
  for (const tensor of tensors.values()) {
    dense.push({ ...tensor, data: await readDense(tensor, MAX_TENSOR_BYTES) });
  }
  return encodeSafetensors(dense, { metadata: null });
}

async function compare(
  root: string,
  file: string,
  expected: Expected,
  { content, refusal }: Outcome,
  report: Report,
): Promise<void> {
  if (refusal !== undefined) {
    const { isTyped, code, message } = refusal;
    const isRefused = isTyped && code !== 'E_FILE_MISSING';
    const isRight = isRefused && (expected.kind === 'refuse' || expected.either === true);
    const note = `${code ?? 'no code'}: ${message.replaceAll(`${root}/`, '')}`;
    report.add({ quantity: file, error: isRight ? 0 : 1, note });
    return;
  }
  const notes: string[] = [];
  let faults = 0;
  if (expected.kind === 'refuse') {
    faults = expected.either === true ? 0 : 1;
    notes.push('loaded');
  }
  for (const [name, differs] of [
    [expected.content, contentDiffers],
    [expected.tensors, tensorsDiffer],
  ] as const) {
    if (name === undefined) continue;
    const path = join(root, name);
    if (!existsSync(path)) notes.push(`not compared: ${name} is absent`);
    else if (content === undefined || (await differs(path, content))) {
      faults++;
      notes.push(`differs from ${name}`);
    }
  }
  report.add({ quantity: file, error: faults, note: notes.join('; ') });
}

async function contentDiffers(path: string, { json }: PickleContent): Promise<boolean> {
  return !sameJson(JSON.parse(json), JSON.parse(await readFile(path, 'utf8')));
}

/** Bit by bit, so that NaN equals itself and -0 does not equal 0. */
async function tensorsDiffer(path: string, content: PickleContent): Promise<boolean> {
  const expected = (await readSafetensors(path)).tensors;
  if (expected.length !== content.tensors.size) return true;
  for (const tensor of expected) {
    const mine = content.tensors.get(tensor.name);
    if (mine?.dtype !== tensor.dtype || !sameJson(mine.shape, tensor.shape)) return true;
    const bytes = Buffer.from(await readDense(mine, MAX_TENSOR_BYTES));
    if (!bytes.equals(await readSpan(tensor))) return true;
  }
  return false;
}

async function readExpected(root: string): Promise<ReadonlyMap<string, Expected>> {
  const path = join(root, 'expected.json');
  const fault = (reason: string, cause: unknown): DataError =>
    new DataError(`${path}: ${reason}`, {
      code: 'E_PARITY_FILES',
      hint: 'Name a folder of the shape of test/fixtures/pickle.',
      cause,
    });
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw fault('the file cannot be read as JSON.', cause);
  }
  const parsed = expectedShape.safeParse(content);
  if (!parsed.success) throw fault(z.prettifyError(parsed.error), parsed.error);
  return new Map(Object.entries(parsed.data.files));
}
