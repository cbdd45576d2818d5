/**
 * `node links-main.js BACKEND N`: starts N ranks on this machine, which measure the links between them; the first prints what
 * `measureLinks` gives as JSON. A program of its own, which `patina doctor` runs: what hangs or crashes in it ends nothing else.
 */

import { fileURLToPath } from 'node:url';
import { launchRanks } from './launch.js';
import { measureLinks } from './links.js';
import { rendezvous } from './world.js';

/** Milliseconds in which ranks must have met, and in which a call must have ended. */
const LIMIT = 15_000;

const [backend, ranks] = process.argv.slice(2) as ['gloo' | 'nccl', string | undefined];

if (ranks !== undefined) {
  const command = [process.execPath, fileURLToPath(import.meta.url), backend];
  const { code } = await launchRanks({ command, processes: Number(ranks), grace: 1_000 });
  process.exitCode = code;
} else {
  try {
    const world = await rendezvous({ backend, joinTimeout: LIMIT, timeout: LIMIT });
    const speeds = await measureLinks(world);
    if (world.rank === 0) process.stdout.write(JSON.stringify(speeds));
    await world.close();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 3;
  }
}
