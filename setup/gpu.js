/** NVIDIA GPUs and their driver, as the system tells them without CUDA, and which build of torch they run. */
import { CUDA_BUILD, OLDER_CUDA_BUILD } from './downloads.js';
import { SetupError } from './errors.js';
import { readIfThere } from './files.js';
import { run } from './tools.js';

/**
 * @typedef {object} Gpus
 * @property {string} driver Version, for example `580.65.06`; empty if unknown.
 * @property {{ name: string, capability: string }[]} devices Capability as `9.0`; empty strings if unknown.
 */

/** Oldest driver and oldest compute capability for a major version of CUDA; its minor versions are compatible. */
const NEEDS = new Map([
  [13, { driver: 580, capability: 7.5 }],
  [12, { driver: 525, capability: 5 }],
]);

/**
 * The GPUs of this machine, or undefined if there are none.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {string} moduleFile Where the kernel module tells its version.
 * @returns {Promise<Gpus | undefined>}
 */
export async function findGpus(env, moduleFile = '/proc/driver/nvidia/version') {
  // Old drivers do not know the last field.
  for (const fields of ['driver_version,name,compute_cap', 'driver_version,name']) {
    const args = [`--query-gpu=${fields}`, '--format=csv,noheader'];
    const { status, stdout } = await run('nvidia-smi', args, { env, timeout: 60_000 });
    const rows = stdout.trim().split('\n').filter(Boolean);
    if (status === 127) break;
    if (status !== 0 || rows.length === 0) continue;
    const cells = rows.map((row) => row.split(',').map((cell) => cell.trim()));
    return {
      driver: cells[0]?.[0] ?? '',
      devices: cells.map(([, name = '', capability = '']) => ({ name, capability })),
    };
  }
  const version = readIfThere(moduleFile);
  if (version === undefined) return undefined;
  return { driver: /\b(\d+\.\d+(\.\d+)?)\b/.exec(version)?.[1] ?? '', devices: [] };
}

/**
 * Throws E_DRIVER_OLD or E_GPU_OLD where a build of torch cannot run on these GPUs, naming the build that suits.
 *
 * @param {Gpus} gpus
 * @param {string} build For example `2.11.0+cu130`; one that does not name its CUDA passes.
 */
export function requireDriver(gpus, build = CUDA_BUILD) {
  const cuda = Number(/\+cu(\d+)\d$/.exec(build)?.[1]);
  const needs = NEEDS.get(cuda);
  if (needs === undefined) return;
  const driver = Number.parseFloat(gpus.driver);
  const old = gpus.devices.find(
    ({ capability }) => Number.parseFloat(capability) < needs.capability,
  );
  const older = NEEDS.get(12);
  const olderSuits =
    cuda > 12 && older !== undefined && driver >= older.driver
      ? `or install torch ${OLDER_CUDA_BUILD}, which suits, in the active Python and run "npm run setup -- --again", `
      : '';
  const without = 'or run "npm run setup -- --again --cpu" to work without the GPU.';
  if (driver < needs.driver) {
    const command = `sudo apt-get install nvidia-driver-${needs.driver}`;
    throw new SetupError(
      `The NVIDIA driver ${gpus.driver} is too old for torch ${build}, which needs ${needs.driver} or newer.`,
      {
        code: 'E_DRIVER_OLD',
        hint: `Update the driver to ${needs.driver} or newer (on Ubuntu: ${command}), ${olderSuits}${without}`,
        command,
      },
    );
  }
  if (old !== undefined) {
    throw new SetupError(
      `The ${old.name} has compute capability ${old.capability}; torch ${build} needs ${needs.capability} or newer.`,
      {
        code: 'E_GPU_OLD',
        hint: `Use a newer GPU, ${olderSuits}${without}`,
        command: 'npm run setup -- --again --cpu',
      },
    );
  }
}
