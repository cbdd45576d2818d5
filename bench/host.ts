/**
 * What the host does in a micro-batch, without a device: a model of as many blocks as LLaVA-Llama-3-8B on meta tensors, with the kernels of
 * a GPU. Prints the time until all of it is queued, to which launches add on a GPU.
 *
 *     node dist/bench/host.js [--case one-600] [--mode lora] [--policy products] [--dropout 0] [--layers 32] [--rounds 20] [--calls]
 *
 * `--calls`: also how often each operator is called, and microseconds of a call; its clock slows everything down.
 */

import { parseArgs } from 'node:util';
import { native } from '../src/torch/native.js';
import { runBench } from './command.js';

const { values: flags } = parseArgs({
  options: {
    case: { type: 'string', default: 'one-600' },
    mode: { type: 'string', default: 'lora' },
    policy: { type: 'string', default: 'products' },
    dropout: { type: 'string', default: '0' },
    layers: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '20' },
    calls: { type: 'boolean', default: false },
  },
});

/** Calls and milliseconds by operator, or by function of the addon. */
const counted = new Map<string, { calls: number; ms: number }>();

type Function = (...args: unknown[]) => unknown;

/** Puts a clock around the addon's functions; the modules that use them take them when they are loaded. */
function count(): void {
  const addon = native as unknown as Record<string, Function>;
  const operators = new Map<unknown, string>();
  for (const [name, run] of Object.entries(addon)) {
    addon[name] = (...args) => {
      const start = performance.now();
      const result = run(...args);
      const ms = performance.now() - start;
      if (name === 'declare') operators.set(result, `${String(args[0])}.${String(args[1])}`);
      const key = name === 'call' ? operators.get(args[0])! : `(${name})`;
      const entry = counted.get(key) ?? { calls: 0, ms: 0 };
      counted.set(key, { calls: entry.calls + 1, ms: entry.ms + ms });
      return result;
    };
  }
}

await runBench(async () => {
  if (flags.calls) count();
  const { measureHost } = await import('./host-row.js');
  const rounds = Number(flags.rounds);
  const { medianMs, leastMs, processorMs } = measureHost({
    ...{ case: flags.case, mode: flags.mode, policy: flags.policy },
    ...{ dropout: Number(flags.dropout), layers: Number(flags.layers), rounds },
    begin: () => counted.clear(),
  });
  console.log(
    `HOST ${flags.case} ${flags.mode} ${flags.policy} dropout ${flags.dropout}: median ${medianMs.toFixed(1)} ms, least ${leastMs.toFixed(1)} ms a micro-batch; ${processorMs.toFixed(1)} ms of processors`,
  );
  if (!flags.calls) return;
  const rows = [...counted].sort(([, a], [, b]) => b.ms - a.ms);
  const sum = (what: 'calls' | 'ms', among = rows): string =>
    (among.reduce((all, [, entry]) => all + entry[what], 0) / rounds).toFixed(1);
  const operators = rows.filter(([name]) => !name.startsWith('('));
  console.log(`${sum('calls', operators)} operators, ${sum('ms', operators)} ms in them`);
  console.log(`${sum('calls')} calls of the addon, ${sum('ms')} ms in them`);
  for (const [name, { calls, ms }] of rows) {
    const each = ((1000 * ms) / calls).toFixed(1).padStart(8);
    console.log(`${(calls / rounds).toFixed(1).padStart(8)}${each} us  ${name}`);
  }
});
