/**
 * Weights in NF4 against bitsandbytes: codes, scales, what they stand for, products, the keys of a quantised checkpoint and its logits. Any
 * folder of the shape of `test/fixtures/nf4`.
 */
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { z } from 'zod';

import { DataError, UsageError } from '../src/base/errors.js';
import { readTensorFile, writeTensorFile } from '../src/models/index.js';
import {
  dequantiseNf4,
  DYNAMIC_CODE,
  NF4_CODE,
  Nf4,
  type Nf4Parts,
  Nf4Weight,
  quantiseNf4,
} from '../src/nn/index.js';
import {
  type Device,
  empty,
  fromTypedArray,
  scope,
  scopeAsync,
  type Tensor,
} from '../src/torch/index.js';
import { parityArguments } from './arguments.js';
import { compareNf4Checkpoint } from './nf4-checkpoint.js';
import { Report } from './report.js';
import { differing, distance } from './tensors.js';

const expectedShape = z.object({
  blocksize: z.literal(64),
  nested_blocksize: z.literal(256),
  dynamic_map_file: z.string(),
  cases: z.record(z.string(), z.object({ file: z.string() })),
});

/** Of the largest magnitude. */
const PRODUCT_TOLERANCE = 1e-5;
/** One unit in the last place of fp32: the mean of the scales depends on the order in which they are summed. */
const ULP = 2 ** -23;

export function run(argv: string[]): Promise<boolean> {
  return scopeAsync(() => runNf4(argv));
}

async function runNf4(argv: string[]): Promise<boolean> {
  const { path, values } = parityArguments(argv, 'nf4', {
    out: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
  });
  const device = values.device;
  if (device !== 'cpu' && device !== 'cuda') {
    throw new UsageError(`parity nf4 cannot run with --device ${device}.`, {
      code: 'E_USAGE',
      hint: 'Give one of cpu, cuda.',
    });
  }
  const expected = await readExpected(path);
  if (values.out !== undefined) await mkdir(values.out, { recursive: true });
  const report = new Report();
  const maps = await readTensorFile(join(path, expected.dynamic_map_file));
  for (const [name, own] of [
    ['nf4', NF4_CODE],
    ['dynamic', DYNAMIC_CODE],
  ] as const) {
    const stored = maps.get(name)!;
    report.add({
      quantity: `${name} (values that differ)`,
      error: differing(tensorOf(own), stored),
    });
  }
  for (const [name, { file }] of Object.entries(expected.cases)) {
    const stored = await readTensorFile(join(path, file));
    const made = scope(() => compareCase(report, { name, stored, device }));
    if (values.out !== undefined) await writeTensorFile(join(values.out, file), made);
    for (const tensor of [...stored.values(), ...made.values()]) tensor.dispose();
  }
  for (const folder of readdirSync(path)) {
    if (!existsSync(join(path, folder, 'parity.safetensors'))) continue;
    const out = values.out ?? (await mkdtemp(join(tmpdir(), 'patina-nf4-')));
    try {
      const written = join(out, folder);
      await compareNf4Checkpoint(report, {
        name: folder,
        path: join(path, folder),
        written,
        device,
      });
    } finally {
      if (values.out === undefined) await rm(out, { recursive: true, force: true });
    }
  }
  return report.print();
}

interface Case {
  readonly name: string;
  readonly stored: ReadonlyMap<string, Tensor>;
  readonly device: Device;
}

/** Adds the rows of a case, and gives what was made, under the names of what is stored. */
function compareCase(report: Report, { name, stored, device }: Case): Map<string, Tensor> {
  const read = (key: string): Tensor => stored.get(key)!.to(device);
  const made = new Map<string, Tensor>();
  const weight = read('weight');
  const row = (key: string, own: Tensor, against: string[] = [key]): void => {
    made.set(key, own.to('cpu').contiguous());
    const there = against.flatMap((each) => stored.get(each) ?? []);
    const error = Math.min(...there.map((each) => differing(made.get(key)!, each)));
    report.add({ quantity: `${name} ${key} (elements that differ)`, error });
  };
  const near = (key: string, own: Tensor, tolerance: number): void => {
    made.set(key, own.to('cpu').contiguous());
    const there = stored.get(key);
    if (there === undefined) return;
    report.add({ quantity: `${name} ${key}`, error: distance(made.get(key)!, there), tolerance });
  };

  const single = quantiseNf4(weight, { doubleQuantised: false });
  row('packed', single.packed);
  row('absmax', single.absmax);
  const double = quantiseNf4(weight, { doubleQuantised: true });
  // The nearest codes, or those of bitsandbytes' table on the CPU.
  row('double.absmax', double.absmax, ['double.absmax_nearest', 'double.absmax']);
  near('double.offset', double.offset!, ULP);
  near('double.nested_absmax', double.nested!, ULP);

  const given: Nf4Parts = {
    ...double,
    absmax: read('double.absmax'),
    nested: read('double.nested_absmax'),
    offset: read('double.offset'),
  };
  for (const [prefix, parts] of [
    ['', single],
    ['double.', given],
  ] as const) {
    const { dtype, shape } = weight;
    row(`${prefix}dequantised`, dequantiseNf4(parts, empty(shape, { dtype, device })));
    if (!stored.has('linear.x')) continue;
    const form = new Nf4({ doubleQuantised: prefix !== '', type: dtype });
    const size = shape as [number, number];
    const wide = new Nf4Weight(size, 'float32', form, () => parts);
    near(`${prefix}linear.y`, wide.product(read('linear.x')), PRODUCT_TOLERANCE);
    near(`${prefix}linear.dx`, wide.inputProduct(read('linear.dy')), PRODUCT_TOLERANCE);
  }
  return made;
}

function tensorOf(values: Float32Array): Tensor {
  return fromTypedArray(values, [values.length], 'float32');
}

async function readExpected(folder: string): Promise<z.output<typeof expectedShape>> {
  const file = join(folder, 'expected.json');
  const fault = (reason: string, cause?: unknown): DataError =>
    new DataError(`${file}: ${reason}`, {
      code: 'E_PARITY_FILES',
      hint: 'Name a folder of the shape of test/fixtures/nf4.',
      cause,
    });
  let content: unknown;
  try {
    content = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw fault('the file cannot be read as JSON.', cause);
  }
  const parsed = expectedShape.safeParse(content);
  if (!parsed.success) throw fault(z.prettifyError(parsed.error), parsed.error);
  return parsed.data;
}
