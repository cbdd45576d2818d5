import { expect, test } from 'vitest';
import type { StepProfile } from '../../train/index.js';
import { profileLines } from './profile-lines.js';

const PROFILE: StepProfile = {
  updates: 3,
  measured: 'kernels',
  milliseconds: 500,
  host: 80,
  work: {
    products: { tower: 10, decoder: 300.25, head: 20 },
    attention: { decoder: 60 },
    elementwise: { tower: 0.004, decoder: 40, optimizer: 1 },
    communication: { decoder: 50 },
  },
  bare: { copies: 0, communication: 12.5 },
  idle: 20,
  products: { teraflop: 212.3456, teraflops: 643, share: 0.65 },
  waits: { cudaStreamSynchronize: 1, 'aten::_local_scalar_dense': 1 / 3 },
  kernels: 1234,
  operators: 800.5,
  longest: [
    {
      name: `void at::native::(anonymous namespace)::long_kernel<${'x'.repeat(100)}>()`,
      kind: 'elementwise',
      times: 32,
      milliseconds: 30,
    },
    { name: 'adamw', kind: 'optimizer', times: 1, milliseconds: 1 },
  ],
};

test('a profile of kernels is a table of kinds by parts, and what keeps it from being faster', () => {
  expect(profileLines(PROFILE)).toEqual([
    'an update took 500.0 ms (mean of 3, times of kernels); the host needed 80.00 ms to queue it (16.0 %)',
    '  ms of one update    all          tower  decoder   head  optimizer',
    "  products          330.3  66.0 %  10.00    300.3  20.00             212 TFLOP, 643 TFLOP/s, 65 % of the card's bf16 rate",
    '  attention         60.00  12.0 %           60.00',
    '  elementwise       41.00   8.2 %   0.00    40.00              1.00',
    '  communication     50.00  10.0 %           50.00                    12.50 while nothing else ran',
    '  idle              20.00   4.0 %                                    no kernel ran',
    '1234 kernels and copies, 800.5 calls of operators; waits for the device: cudaStreamSynchronize 1, aten::_local_scalar_dense 0.3',
    'longest kernels:',
    `  30.00  6.0 %  32  elementwise    long_kernel<${'x'.repeat(78)}...`,
    '   1.00  0.2 %   1  optimizer      adamw',
  ]);
});

test('operators of a CPU have no rate of a card, and their idle time is that of the host', () => {
  const lines = profileLines({
    ...PROFILE,
    measured: 'operators',
    products: { ...PROFILE.products, share: null },
    waits: {},
  });
  expect(lines[0]).toContain('the host needed 80.00 ms to run it');
  expect(lines[2]).toMatch(/212 TFLOP, 643 TFLOP\/s$/);
  expect(lines.find((line) => line.includes('idle'))).toMatch(/between operators$/);
  expect(lines).toContain('800.5 calls of operators; waits for the device: none');
  expect(lines.join('\n')).not.toContain('while nothing else ran');
});
