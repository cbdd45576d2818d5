import { describe, expect, test } from 'vitest';
import type { Activity } from '../../torch/index.js';
import { Ranges } from './ranges.js';
import { stepProfile } from './step-profile.js';

const activity = (
  kind: Activity['kind'],
  name: string,
  [start, end]: readonly [number, number],
  more: Partial<Activity> = {},
): Activity => ({ kind, name, start, end, thread: '1/1', ...more });

/** A kernel or copy with the call that launched it. */
let launches = 0;
const launched = (name: string, at: number, span: readonly [number, number]): Activity[] => {
  const correlation = ++launches;
  const kind = name.startsWith('Mem') ? 'copy' : 'kernel';
  return [
    activity('runtime', 'cudaLaunchKernel', [at, at + 0.1], { correlation }),
    activity(kind, name, span, { correlation, thread: '0/7' }),
  ];
};

const GEMM = 'nvjet_sm90_tst_128x256_64x4_1x2_h_bz_coopA_NNT';
const ADD =
  'void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)';

describe('on a GPU', () => {
  // Two updates of 10 ms on the host, whose kernels run until 40.
  const activities = [
    activity('range', 'ProfilerStep#4', [0, 10]),
    activity('range', 'batch', [0, 1]),
    ...launched('Memcpy HtoD (Pageable -> Device)', 0.5, [1, 2]),
    activity('range', 'forward vision.0', [1, 3]),
    activity('operator', 'aten::addmm', [1.5, 2], { shapes: [[7], [1000, 1000], [1000, 500]] }),
    ...launched(GEMM, 1.6, [4, 6]),
    activity('range', 'backward decoder.3', [3, 6]),
    activity('operator', 'aten::mul', [3.5, 4]),
    activity('operator', 'aten::empty', [3.6, 3.7]),
    ...launched(ADD, 3.8, [10, 12]),
    ...launched(
      'ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)',
      5,
      [11, 14],
    ),
    // Of another segment within the first one's range: the innermost counts.
    activity('range', 'optimizer', [5.2, 5.8]),
    ...launched('adamw', 5.5, [20, 22]),
    activity('range', 'optimizer', [8, 10]),
    activity('runtime', 'cudaStreamSynchronize', [9, 9.5]),
    activity('range', 'ProfilerStep#5', [12, 22]),
    activity('range', 'forward head', [12, 20]),
    ...launched(GEMM, 13, [30, 40]),
    // Between two updates nothing belongs to the step.
    activity('runtime', 'cudaEventSynchronize', [11, 11.5]),
    ...launched(ADD, 11.2, [23, 24]),
  ];
  const profile = stepProfile(activities, { teraflops: 989 });

  test('work belongs to what launched it, however late it ran', () => {
    expect(profile).toMatchObject({ updates: 2, measured: 'kernels', milliseconds: 20, host: 10 });
    expect(profile.work).toEqual({
      products: { tower: 1, head: 5 },
      elementwise: { decoder: 1, other: 0.5 },
      optimizer: { optimizer: 1 },
      copies: { other: 0.5 },
      communication: { decoder: 1.5 },
    });
  });

  test('the device is idle while nothing runs, and what runs alone is bare', () => {
    // 1 to 2, 4 to 6, 10 to 14, 20 to 22, 23 to 24, 30 to 40: 20 of 40.
    expect(profile.idle).toBe(10);
    expect(profile.bare).toEqual({ copies: 0.5, communication: 1 });
  });

  test('products are rated by their shapes', () => {
    expect(profile.products.teraflop).toBeCloseTo(0.0005, 12);
    // 1e9 operations in 12 ms
    expect(profile.products.teraflops).toBeCloseTo(1e-3 / 12e-3, 12);
    expect(profile.products.share).toBeCloseTo(1 / 12 / 989, 12);
    expect(stepProfile(activities).products.share).toBeNull();
  });

  test('waits within updates are counted, those between them are not', () => {
    expect(profile.waits).toEqual({
      cudaStreamSynchronize: 0.5,
      'Memcpy HtoD (Pageable -> Device)': 0.5,
    });
    expect(profile).toMatchObject({ kernels: 3.5, operators: 1 });
  });

  test('what took longest comes first', () => {
    expect(profile.longest.slice(0, 2)).toEqual([
      { name: GEMM, kind: 'products', times: 1, milliseconds: 6 },
      expect.objectContaining({ kind: 'elementwise', times: 1, milliseconds: 1.5 }),
    ]);
  });
});

describe('on a CPU', () => {
  const profile = stepProfile([
    activity('range', 'ProfilerStep#1', [0, 100]),
    activity('range', 'forward decoder.0', [10, 60]),
    activity('operator', 'aten::linear', [10, 50]),
    activity('operator', 'aten::mm', [15, 45], {
      shapes: [
        [2, 3],
        [3, 4],
      ],
    }),
    activity('operator', 'aten::empty', [16, 17]),
    activity('operator', 'patina::adamw_', [60, 70]),
    activity('operator', 'aten::item', [61, 62]),
    activity('operator', 'aten::_local_scalar_dense', [61, 62]),
    activity('operator', 'aten::item', [80, 82]),
    activity('operator', 'aten::_local_scalar_dense', [80, 81]),
    // On another thread at the same time it is not within the others.
    activity('operator', 'aten::mul', [20, 30], { thread: '1/2' }),
  ]);

  test('operators count without those within them', () => {
    expect(profile).toMatchObject({ measured: 'operators', milliseconds: 100, idle: 48 });
    expect(profile.work['products']).toEqual({ decoder: 10 + 29 });
    expect(profile.work['other']).toEqual({ decoder: 1 });
    expect(profile.work['optimizer']).toEqual({ other: 9 });
    expect(profile.products).toMatchObject({ teraflop: 48e-12, share: null });
  });

  test('values are read where no operator of our own reads them', () => {
    expect(profile.waits).toEqual({ 'aten::_local_scalar_dense': 1 });
    expect(profile).toMatchObject({ kernels: 0, operators: 4 });
  });
});

test('a profile without an update says so', () => {
  expect(() => stepProfile([activity('operator', 'aten::mm', [0, 1])])).toThrow(/no update/);
});

test('ranges that begin and end at the same moment lie within one another', () => {
  const ranges = new Ranges([
    activity('range', 'forward projector', [0, 5]),
    activity('range', 'ProfilerStep#1', [0, 10]),
    activity('range', 'backward projector', [5, 10]),
  ]);
  expect([-1, 0, 4, 5, 9, 10].map((time) => ranges.at(time))).toEqual([
    { part: 'other', inUpdate: false },
    { part: 'projector', inUpdate: true },
    { part: 'projector', inUpdate: true },
    { part: 'projector', inUpdate: true },
    { part: 'projector', inUpdate: true },
    { part: 'other', inUpdate: false },
  ]);
});
