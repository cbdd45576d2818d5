/** Facts about machine, versions and command, kept with a run. */

import { hostname } from 'node:os';
import { packageVersion } from '../../base/native-path.js';
import { type ChosenDevice, torchFacts } from '../../torch/index.js';

export function environmentFacts({ device, name }: ChosenDevice): object {
  const { version: libtorch, cpuCapability, threads, cuda } = torchFacts();
  return {
    patina: packageVersion(),
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
