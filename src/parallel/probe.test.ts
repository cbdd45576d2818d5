import { expect, it } from 'vitest';

import { torchFacts } from '../torch/index.js';
import { probeBackends } from './probe.js';

it('finds that processes can work together here, or why not', async () => {
  const { gloo, nccl } = await probeBackends();
  expect(gloo).toBeNull();
  if (torchFacts().cuda === null) expect(nccl).toBe('there is no GPU that libtorch can use');
});
