/** Memory that is no tensor: what libraries keep, and what kernels take while they run. */
import { describe, expect, test } from 'vitest';
import type { GhostBegin, TraceLine } from '../torch/index.js';
import { readGpus } from './devices/cards.js';
import { operatorKind } from './operator-kinds.js';
import { replay } from './replay.js';
import { libraryWorkspaces, workspacesOf } from './workspaces.js';

const MIB = 2 ** 20;
const PRODUCT = [
  [64, 32],
  [32, 16],
];
const BIASED = [[16], ...PRODUCT];
const { card } = readGpus('H200');

test('cuBLAS takes more on Hopper alone', () => {
  const bytes = (gpu: string): number =>
    libraryWorkspaces(readGpus(gpu).card, operatorKind('aten::mm'), PRODUCT)[0]!.bytes;
  expect(bytes('H100')).toBe(32 * MIB);
  expect(bytes('B200')).toBe(bytes('A100-40GB'));
  expect(bytes('A100-40GB')).toBe((2 * 4096 + 8 * 16) * 1024);
});

test('gradients of embeddings are summed in fp32, ten tokens at a time at most', () => {
  const shapes = [[4, 2048, 4096], [4, 2048], [], [], []];
  // What full training took beyond the plan: 141 MiB.
  expect(workspacesOf(operatorKind('aten::embedding_dense_backward'), shapes)).toEqual([
    9011 * 4096 * 4,
  ]);
  expect(workspacesOf(operatorKind('aten::embedding'), shapes)).toEqual([]);
});

describe('the backward of attention', () => {
  const backward = (kernel: string, q: number[], kv: number[], more: number[][] = []): number[] => [
    ...workspacesOf(operatorKind(`aten::_${kernel}_attention_backward`), [
      q,
      q,
      kv,
      kv,
      q,
      ...more,
    ]),
  ];
  const cudnn = 'scaled_dot_product_cudnn';

  test('has gradients of keys and values for each head where heads share them', () => {
    const sums = 4 * 20 * 32 * 1024 * (128 + 1);
    const [q, alone, shared] = [32, 32, 8].map((heads) => [20, heads, 1024, 128]);
    expect(backward(cudnn, q!, alone!)).toEqual([sums]);
    // What was measured beyond the plan: 320 MiB.
    expect(backward(cudnn, q!, shared!)).toEqual([sums + 320 * MIB]);
  });

  test('takes blocks apart where sequences are packed, with room for each', () => {
    const places = 10_176 + 16 * 128;
    const blocks = backward('flash', [10_176, 32, 128], [10_176, 8, 128], [[32, 10_176], [17]]);
    const ofHeads = 2 * 10_176 * 32 * 128;
    expect(blocks).toEqual([4 * places * 32, 4 * places * 32 * 128, ofHeads, ofHeads]);
  });
});

describe('libraries keep what they took with their first call', () => {
  let number = 0;
  const call = (
    name: string,
    shapes: GhostBegin['shapes'],
    { stream = 0, within }: { stream?: number; within?: string } = {},
  ): TraceLine[] => {
    const begin = { isRange: false, onHost: false, stream, bytes: 0, overwritten: 0 };
    const own: TraceLine[] = [
      { ...begin, kind: 'begin', number: ++number, name, shapes },
      { kind: 'end', number },
    ];
    if (within === undefined) return own;
    const outer = ++number;
    return [
      { ...begin, kind: 'begin', number: outer, name: within, shapes: [] },
      ...own,
      { kind: 'end', number: outer },
    ];
  };
  const graph = 'autograd::engine::evaluate_function: MmBackward0';

  test.each<[string, TraceLine[], number]>([
    ['one product', call('aten::mm', PRODUCT), 32],
    ['the same again', [...call('aten::mm', PRODUCT), ...call('aten::mm', PRODUCT)], 32],
    [
      'in another stream',
      [...call('aten::mm', PRODUCT), ...call('aten::bmm', PRODUCT, { stream: 3 })],
      64,
    ],
    [
      'in a thread of autograd',
      [...call('aten::mm', PRODUCT), ...call('aten::mm', PRODUCT, { within: graph })],
      64,
    ],
    [
      'with a bias',
      [...call('aten::addmm', BIASED), ...call('aten::mm', PRODUCT, { within: graph })],
      65,
    ],
    ['added to a matrix', call('aten::addmm', [[64, 16], ...PRODUCT]), 32],
    ['in fp8', call('patina::fp8_product', PRODUCT), 33],
    ['no product', call('aten::add', PRODUCT), 0],
  ])('%s', (_, lines, mib) => {
    const run = replay(lines, new Map(), { card });
    expect(run.allocated).toBe(mib * MIB);
    expect(run.atPeak.workspace).toBe(mib * MIB);
  });
});
