/**
 * `npm run bench:door [-- --json]`: what one call through the door costs, beside the same call in a C++ loop and in Python.
 *
 * The three take turns, a few thousand calls each, and the medians of all turns are compared: a busy machine then disturbs all
 * of them alike. "Python" is the `python3` on the PATH.
 */

import { parseArgs } from 'node:util';
import { median } from '../src/base/median.js';
import {
  cudaAvailable,
  linear,
  ones,
  scope,
  setThreads,
  synchronize,
  torchFacts,
  type Device,
} from '../src/torch/index.js';
import { cppLoop } from './cpp-loop.js';
import { PythonPeer } from './python-peer.js';

const TURNS = 100;
const CALLS = 2000;

/** One row of the table. */
interface Case {
  readonly name: string;
  readonly label: string;
  /** Runs it so often. */
  readonly run: (calls: number) => void;
  readonly cpp?: (calls: number) => void;
  /** Name in `door_peer.py`. */
  readonly python?: string;
}

const cpp = cppLoop<'add' | 'linear'>('door_loop.cc');

function casesOn(device: Device): Case[] {
  const [x, y] = [ones([4], { device }), ones([4], { device })];
  const [a, w] = [ones([4, 64], { device }), ones([64, 64], { device })];
  const cppAdd = (calls: number): void => cpp.add(device, calls);
  const cppLinear = (calls: number): void => cpp.linear(device, calls);
  return [
    {
      name: 'add',
      label: 'add, disposed at once',
      run: (calls) => {
        for (let i = 0; i < calls; i++) x.add(y).dispose();
      },
      cpp: cppAdd,
      python: 'add',
    },
    {
      name: 'add_scoped',
      label: 'add, in scopes of 100',
      run: (calls) => {
        for (let i = 0; i < calls / 100; i++) {
          scope(() => {
            for (let k = 0; k < 100; k++) x.add(y);
          });
        }
      },
      cpp: cppAdd,
      python: 'add',
    },
    {
      name: 'linear',
      label: 'linear 4x64 by 64x64',
      run: (calls) => {
        for (let i = 0; i < calls; i++) linear(a, w).dispose();
      },
      cpp: cppLinear,
      python: 'linear',
    },
    {
      name: 'scope',
      label: 'empty scope',
      run: (calls) => {
        for (let i = 0; i < calls; i++) scope(() => undefined);
      },
    },
    {
      name: 'read_back',
      label: 'reading 4 elements',
      run: (calls) => {
        for (let i = 0; i < calls; i++) x.toArray();
      },
      python: 'read_back',
    },
  ];
}

/** Microseconds per call. */
function time(run: (calls: number) => void, device: Device): number {
  synchronize(device);
  const start = performance.now();
  run(CALLS);
  synchronize(device);
  return ((performance.now() - start) * 1000) / CALLS;
}

interface Row {
  readonly patina: number;
  readonly cpp: number | null;
  readonly python: number | null;
}

async function measure(test: Case, device: Device, peer: PythonPeer | null): Promise<Row> {
  const patina: number[] = [];
  const cpp: number[] = [];
  const python: number[] = [];
  for (let turn = -5; turn < TURNS; turn++) {
    const mine = time(test.run, device);
    const floor = test.cpp === undefined ? null : time(test.cpp, device);
    const theirs =
      test.python === undefined || peer === null
        ? null
        : Number(await peer.ask(`${device} ${test.python} ${CALLS}`));
    if (turn < 0) continue; // warming up
    patina.push(mine);
    if (floor !== null) cpp.push(floor);
    if (theirs !== null) python.push(theirs);
  }
  const middle = (values: readonly number[]): number | null =>
    values.length === 0 ? null : median(values);
  return { patina: median(patina), cpp: middle(cpp), python: middle(python) };
}

const cell = (value: number | null): string =>
  (value === null ? '-' : value.toFixed(2)).padStart(8);

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    threads: { type: 'string', default: '1' },
  },
});
const threads = Number(values.threads);
setThreads(threads);
const peer = await PythonPeer.start('door_peer.py', [String(threads)]);
const { version, cpuCapability, cuda } = torchFacts();
const result: Record<string, unknown> = {
  node: process.versions.node,
  libtorch: version,
  cpu_capability: cpuCapability,
  threads,
  python_torch: peer?.facts ?? null,
  gpu: cuda?.devices[0]?.name ?? null,
};
const table = [`microseconds per call ${' '.repeat(14)}  patina   C++ loop  Python  to Python`];
for (const device of cudaAvailable() ? (['cpu', 'cuda:0'] as const) : (['cpu'] as const)) {
  const suffix = device === 'cpu' ? 'us' : 'cuda_us';
  for (const test of casesOn(device)) {
    const { patina, cpp, python } = await measure(test, device, peer);
    result[`${test.name}_${suffix}`] = patina;
    if (test.cpp !== undefined) result[`cpp_${test.name}_${suffix}`] = cpp;
    if (test.python !== undefined) result[`python_${test.name}_${suffix}`] = python;
    const ratio = python === null ? '' : `${(patina / python).toFixed(2)}x`;
    const label = `${device.padEnd(7)} ${test.label}`.padEnd(36);
    table.push(`${label}${cell(patina)}  ${cell(cpp)}${cell(python)}  ${ratio.padStart(8)}`);
  }
}
peer?.stop();
process.stdout.write(`${table.join('\n')}\n`);
if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);
