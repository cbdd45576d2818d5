import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readTrace } from './trace-file.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trace-'));
});
afterAll(() => rm(folder, { recursive: true }));

const common = { ph: 'X', pid: 1, tid: 2, ts: 1000, dur: 500 };
const TRACE = {
  schemaVersion: 1,
  deviceProperties: [{ id: 0, name: 'NVIDIA H200', limits: { threads: [1024] } }],
  record_shapes: 1,
  traceEvents: [
    { ...common, cat: 'cpu_op', name: 'aten::mm', args: { 'Input Dims': [[2, 3], [3, 4], []] } },
    // What looks like structure within a name, and characters of several bytes.
    { ...common, cat: 'user_annotation', name: 'a "{[ \\" é }' },
    { ...common, cat: 'kernel', tid: 7, name: 'nvjet', args: { correlation: 5, grid: [1, 2, 3] } },
    { ...common, cat: 'cuda_driver', name: 'cuLaunchKernelEx', args: { correlation: 5 } },
    { ...common, cat: 'gpu_memset', tid: 7, name: 'Memset (Device)', ts: 2000, dur: 1 },
    // Of no interest: what flows where, names of threads, ranges as the device sees them.
    { ph: 's', cat: 'ac2g', name: 'ac2g', id: 5, pid: 1, tid: 2, ts: 1000 },
    { ph: 'M', name: 'process_name', pid: 1, tid: 0, ts: 0, args: { name: 'node' } },
    { ...common, cat: 'gpu_user_annotation', name: 'update' },
  ],
  traceName: 'trace.json',
};

const at = { start: 1, end: 1.5, thread: '1/2' };
const ACTIVITIES = [
  { ...at, kind: 'operator', name: 'aten::mm', shapes: [[2, 3], [3, 4], []] },
  { ...at, kind: 'range', name: 'a "{[ \\" é }' },
  { ...at, kind: 'kernel', name: 'nvjet', thread: '1/7', correlation: 5 },
  { ...at, kind: 'runtime', name: 'cuLaunchKernelEx', correlation: 5 },
  { kind: 'copy', name: 'Memset (Device)', thread: '1/7', start: 2, end: 2.001 },
];

// Wherever the pieces in which it is read may end.
test.each([1, 2, 3, 7, 64, 1000, 1 << 20])('a trace is read %d bytes at a time', async (chunk) => {
  const path = join(folder, 'trace.json');
  await writeFile(path, JSON.stringify(TRACE, null, chunk % 2 === 0 ? 2 : 0));
  expect(await readTrace(path, chunk)).toEqual(ACTIVITIES);
});

test('a trace that is not there fails', async () => {
  await expect(readTrace(join(folder, 'nothing.json'))).rejects.toThrow(/ENOENT/);
});
