/**
 * What the guard costs of an update, on any device: watched updates and bare ones in turn, in both orders (see `guard-row.ts`).
 *
 *     node dist/bench/guard.js [--cases 4x2048] [--modes lora,full] [--policy products] [--layers 32] [--hidden 4096] [--pairs 30] [--device cuda:0] [--json]
 *
 * Cases and modes are those of `bench/train.ts`, but for modes that update in backward. A difference counts where the quartiles of the
 * overhead are on one side of 0.
 */

import { parseArgs } from 'node:util';
import type { Device } from '../src/torch/index.js';
import { readCases } from './cases.js';
import { runBench } from './command.js';
import { measureGuard } from './guard-row.js';
import { llava15, llava8b } from './shapes.js';
import { readModes, readPolicies } from './training-row.js';

const { values: flags } = parseArgs({
  options: {
    cases: { type: 'string', default: '4x2048' },
    modes: { type: 'string', default: 'lora,full' },
    policy: { type: 'string', default: 'products' },
    layers: { type: 'string', default: '32' },
    hidden: { type: 'string', default: '4096' },
    pairs: { type: 'string', default: '30' },
    device: { type: 'string', default: 'cuda:0' },
    json: { type: 'boolean', default: false },
  },
});

await runBench(() => {
  const policy = readPolicies(flags.policy)[0]!;
  for (const of of readCases(flags.cases)) {
    for (const mode of readModes(flags.modes)) {
      const shape = of.shape === 'vicuna' ? llava15 : llava8b;
      const row = measureGuard({
        ...{ of, mode, policy, dropout: 0, pairs: Number(flags.pairs) },
        config: shape({ layers: Number(flags.layers), hidden: Number(flags.hidden) }),
        device: flags.device as Device,
      });
      const { bareMs, watchedMs, overhead, quartiles, pairs } = row;
      console.log(
        flags.json
          ? JSON.stringify(row)
          : `GUARD ${of.name} ${mode} ${policy} bare=${bareMs}ms watched=${watchedMs}ms overhead=${overhead}% quartiles=${quartiles.join('..')}% pairs=${pairs}`,
      );
    }
  }
});
