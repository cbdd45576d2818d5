/** Facts about machine, versions and command, kept with a run. */

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../base/native-path.js';
import { type ChosenDevice, torchFacts } from '../../torch/index.js';

export function environmentFacts({ device, name }: ChosenDevice): object {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  const { version: libtorch, cpuCapability, threads, cuda } = torchFacts();
  return {
    patina: version,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    host: hostname(),
    libtorch,
    cpuCapability,
    threads,
    cuda,
    device,
    deviceName: name,
    command: process.argv.slice(1),
    folder: process.cwd(),
  };
}
