/** Slurm's compact lists of hosts: `gpu[01-03,07],login2` is gpu01, gpu02, gpu03, gpu07, login2. */

import { EnvironmentError } from '../base/errors.js';

/**
 * The first host of a list, which is where the first task runs.
 *
 * @param variable where the list is from, for the message
 * @throws EnvironmentError `E_RANKS` if it is no such list
 */
export function firstHost(list: string, variable: string): string {
  // Up to the first comma outside of brackets: a name with any number of ranges.
  const first = /^(?:[^[\],\s]|\[[^[\]]*\])+(?=,|$)/.exec(list)?.[0];
  const host = first?.replaceAll(/\[([^[\]]*)\]/g, (_, ranges: string) => {
    return /^(\d+)(-\d+)?(,\d+(-\d+)?)*$/.exec(ranges)?.[1] ?? '[';
  });
  if (host === undefined || host.includes('[')) {
    throw new EnvironmentError(`${variable}='${list}' is no list of hosts`, {
      code: 'E_RANKS',
      hint: `Set MASTER_ADDR to the host of the first task; \`scontrol show hostnames "$${variable}"\` lists them.`,
    });
  }
  return host;
}
