/** What Patina runs on and what is wrong with it: the facts behind `patina doctor`. */
import { execFile } from 'node:child_process';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { freeBytes } from '../base/disk-space.js';
import { EnvironmentError } from '../base/errors.js';
import { formatBytes } from '../base/format.js';
import { packageRoot } from '../base/native-path.js';
import type { Backends, LinkSpeeds } from '../parallel/index.js';
import type { TorchFacts } from '../torch/index.js';

/** Something that is wrong, and how to mend it. */
export interface Fault {
  /** An error prevents work, a warning does not. */
  severity: 'error' | 'warning';
  code: string;
  message: string;
  hint: string;
  /** The command that mends it. */
  command: string;
}

/** Where libtorch is from; `python` is the one that was active at the set-up. */
export type Origin = 'PATINA_LIBTORCH' | 'python' | 'private';

/** Everything that `patina doctor` tells. Sizes are in bytes; null: not known, or not there. */
export interface Health {
  /** Whether no fault prevents work. */
  ok: boolean;
  node: { version: string; platform: string };
  libtorch: null | {
    version: string;
    folder: string;
    from: Origin;
    /** The best instruction set that its kernels use here, for example `AVX512`. */
    cpuCapability: string | null;
    threads: number | null;
  };
  addon: null | { folder: string; loads: boolean };
  gpus: {
    name: string;
    capability: string;
    totalBytes: number | null;
    freeBytes: number | null;
  }[];
  /** The NVIDIA driver, the newest CUDA that it runs, and the CUDA that libtorch was built for. */
  driver: null | { version: string; supports: string | null; builtFor: string | null };
  /** Why processes cannot work together, between CPUs (Gloo) and between GPUs (NCCL); null: they can. */
  processGroups: Backends | null;
  /** How fast tensors move between processes here; null: not measured, or a fault tells why not. */
  links: LinkSpeeds | null;
  memory: { totalBytes: number; freeBytes: number };
  disk: { folder: string; freeBytes: number };
  faults: Fault[];
}

/** What `setup.js --check` prints; see setup/check.js. */
export interface SetupCheck {
  record: null | {
    libtorch: { folder: string; version: string; from: Origin; cuda: boolean };
    addon: { folder: string };
  };
  current: boolean;
  libtorch: 'standing' | 'gone' | 'changed' | 'renamed' | null;
  gpus: null | { driver: string; devices: { name: string; capability: string }[] };
  driver: SetupFault | null;
  tools: SetupFault[];
}

type SetupFault = Omit<Fault, 'severity'>;

/** What libtorch tells of itself, and of processes that work together. */
export interface TorchAnswer extends TorchFacts {
  processGroups: Backends;
}

/** Little room: a checkpoint or a download would not fit. */
const LOW_DISK_BYTES = 2 * 2 ** 30;

/** Looks at everything. Works, and says why, when nothing is set up or the addon does not load. */
export async function examine({
  root = packageRoot(),
  askSetup = runSetupCheck,
  askTorch = runTorchFacts,
  askLinks = runLinks,
  links: wanted = false,
}: {
  root?: string;
  /** Measure the links even where there are no two GPUs: between two processes on the CPU. @default false */
  links?: boolean;
  askSetup?: (root: string) => Promise<SetupCheck>;
  askTorch?: () => Promise<TorchAnswer | SetupFault>;
  askLinks?: (plan: LinkPlan) => Promise<LinkSpeeds | SetupFault>;
} = {}): Promise<Health> {
  const check = await askSetup(root);
  const answer = check.record === null ? null : await askTorch();
  const facts = answer === null || 'code' in answer ? null : answer;
  const loadFault = answer !== null && 'code' in answer ? answer : null;
  const plan = linkPlan(facts, wanted);
  const measured = plan && (await askLinks(plan));
  const linkFault = measured !== null && 'code' in measured ? measured : null;
  const disk = { folder: root, freeBytes: await freeBytes(root) };
  const faults = [
    ...setupFaults(check, loadFault),
    ...gpuFaults(check, facts),
    ...(linkFault === null ? [] : [{ severity: 'warning' as const, ...linkFault }]),
    ...(disk.freeBytes < LOW_DISK_BYTES ? [lowDisk(disk)] : []),
  ];
  return {
    ok: faults.every(({ severity }) => severity === 'warning'),
    node: { version: process.version, platform: `${process.platform}-${process.arch}` },
    libtorch:
      check.record === null
        ? null
        : {
            version: check.record.libtorch.version,
            folder: check.record.libtorch.folder,
            from: check.record.libtorch.from,
            cpuCapability: facts?.cpuCapability ?? null,
            threads: facts?.threads ?? null,
          },
    addon: check.record && { folder: check.record.addon.folder, loads: facts !== null },
    gpus: gpusOf(check, facts),
    driver: check.gpus && {
      version: check.gpus.driver,
      supports: facts?.cuda?.driver ?? null,
      builtFor: facts?.cuda?.runtime ?? null,
    },
    processGroups: facts?.processGroups ?? null,
    links: measured !== null && 'backend' in measured ? measured : null,
    memory: {
      totalBytes: Math.min(totalmem(), process.constrainedMemory() || Infinity),
      freeBytes: process.availableMemory(),
    },
    disk,
    faults,
  };
}

/** Between which processes links are measured. */
export interface LinkPlan {
  readonly backend: LinkSpeeds['backend'];
  readonly ranks: number;
}

/** All GPUs where there are several, else two processes on the CPU where somebody wants it. */
function linkPlan(facts: TorchAnswer | null, wanted: boolean): LinkPlan | null {
  if (facts === null) return null;
  const { cuda, processGroups } = facts;
  const ranks = cuda?.devices.length ?? 0;
  if (ranks > 1 && processGroups.nccl === null) return { backend: 'nccl', ranks };
  return wanted ? { backend: 'gloo', ranks: 2 } : null;
}

/** GPUs as libtorch sees them, else as the system tells of them. */
function gpusOf(check: SetupCheck, facts: TorchFacts | null): Health['gpus'] {
  if (facts?.cuda != null) {
    return facts.cuda.devices.map(({ name, capability, totalBytes, freeBytes = null }) => {
      return { name, capability, totalBytes, freeBytes };
    });
  }
  return (check.gpus?.devices ?? []).map(({ name, capability }) => {
    return { name, capability, totalBytes: null, freeBytes: null };
  });
}

function setupFaults(check: SetupCheck, loadFault: SetupFault | null): Fault[] {
  const fault = setupFault(check, loadFault);
  // What a set-up needs is missed only where one is to be made.
  const tools = check.current ? [] : check.tools;
  const severity = fault?.severity ?? 'warning';
  return [...(fault === null ? [] : [fault]), ...tools.map((tool) => ({ severity, ...tool }))];
}

function setupFault(check: SetupCheck, loadFault: SetupFault | null): Fault | null {
  const mend = { hint: 'Run the set-up.', command: 'npm run setup' };
  if (check.record === null) {
    return { severity: 'error', code: 'E_NOT_SET_UP', message: 'Patina is not set up.', ...mend };
  }
  const { folder } = check.record.libtorch;
  if (check.libtorch === 'gone') {
    const message = `The libtorch in ${folder} is gone.`;
    return { severity: 'error', code: 'E_LIBTORCH_GONE', message, ...mend };
  }
  if (check.libtorch === 'changed') {
    const message = `The libtorch in ${folder} is not the one that the addon was built for.`;
    return { severity: 'error', code: 'E_LIBTORCH_CHANGED', message, ...mend };
  }
  if (loadFault !== null) {
    return { severity: 'error', ...loadFault, ...(check.current ? {} : mend) };
  }
  if (check.libtorch === 'renamed') {
    const message = `PATINA_LIBTORCH names another libtorch than the one in use, ${folder}.`;
    return { severity: 'warning', code: 'E_LIBTORCH_RENAMED', message, ...mend };
  }
  if (check.current) return null;
  const message = 'Sources, packages or the compiler have changed since the last set-up.';
  return { severity: 'warning', code: 'E_OUTDATED', message, ...mend };
}

function gpuFaults(check: SetupCheck, facts: TorchFacts | null): Fault[] {
  if (check.gpus === null || check.record === null) return [];
  const { version, cuda, from } = check.record.libtorch;
  if (!cuda) {
    return [
      {
        severity: 'warning',
        code: 'E_LIBTORCH_WITHOUT_CUDA',
        message: `There is a GPU, but libtorch ${version} is without CUDA.`,
        hint: 'Choose libtorch again, to work on the GPU.',
        command: `${from === 'PATINA_LIBTORCH' ? 'unset PATINA_LIBTORCH; ' : ''}npm run setup -- --again`,
      },
    ];
  }
  if (check.driver !== null) return [{ severity: 'warning', ...check.driver }];
  if (facts !== null && facts.cuda === null) {
    return [
      {
        severity: 'warning',
        code: 'E_CUDA_UNREACHABLE',
        message: `There is a GPU and libtorch ${version} has CUDA, but it cannot reach the GPU.`,
        hint: 'Check that the device files of the driver are there (in a container: that the GPU is passed in) and CUDA_VISIBLE_DEVICES.',
        command: 'nvidia-smi',
      },
    ];
  }
  return [];
}

function lowDisk({ folder, freeBytes: free }: Health['disk']): Fault {
  return {
    severity: 'warning',
    code: 'E_DISK_LOW',
    message: `Only ${formatBytes(free)} are free at ${folder}.`,
    hint: 'Free some space; the largest folders are shown by the command.',
    command: `du -xh --max-depth=3 ${folder} | sort -h | tail`,
  };
}

const runFile = promisify(execFile);

async function runSetupCheck(root: string): Promise<SetupCheck> {
  try {
    const { stdout } = await runFile(process.execPath, [
      join(root, 'setup', 'setup.js'),
      '--check',
    ]);
    return JSON.parse(stdout) as SetupCheck;
  } catch (cause) {
    throw new EnvironmentError(`The set-up cannot be looked at: ${(cause as Error).message}`, {
      code: 'E_SETUP_CHECK',
      hint: 'Run `npm run setup`.',
      cause,
    });
  }
}

const PRINT_FACTS = `
  const print = (answer) => process.stdout.write(JSON.stringify(answer));
  const [torch, parallel] = process.argv.slice(1).map((room) => import(room));
  Promise.all([torch, parallel])
    .then(async ([{ torchFacts }, { probeBackends }]) =>
      print({ ...torchFacts({ freeMemory: true }), processGroups: await probeBackends() }))
    .catch((error) => print({ code: error.code ?? 'E_ADDON', message: error.message, hint: error.hint ?? 'Build it anew.',
      command: 'npm run setup -- --again' }));
`;

/** Asks libtorch in a process of its own: one that does not fit may end the process that loads it. */
async function runTorchFacts(): Promise<TorchAnswer | SetupFault> {
  const rooms = ['torch', 'parallel'].map((room) => {
    return new URL(`../${room}/index.js`, import.meta.url).href;
  });
  try {
    const { stdout } = await runFile(process.execPath, ['-e', PRINT_FACTS, ...rooms]);
    return JSON.parse(stdout) as TorchAnswer | SetupFault;
  } catch (error) {
    const { signal } = error as { signal?: string | null };
    return {
      code: 'E_ADDON_LOAD',
      message: `The addon ends the process that loads it${signal ? ` (${signal})` : ''}: ${(error as Error).message}`,
      hint: 'Build it anew.',
      command: 'npm run setup -- --again',
    };
  }
}

/** Milliseconds that measuring the links may take, the start of the processes included. */
const LINKS_LIMIT = 20_000;

async function runLinks({ backend, ranks }: LinkPlan): Promise<LinkSpeeds | SetupFault> {
  const program = fileURLToPath(new URL('../parallel/links-main.js', import.meta.url));
  try {
    const { stdout } = await runFile(process.execPath, [program, backend, `${ranks}`], {
      timeout: LINKS_LIMIT,
    });
    return JSON.parse(stdout) as LinkSpeeds;
  } catch (error) {
    const { killed, stderr } = error as { killed?: boolean; stderr?: string };
    const reason = killed
      ? `they have not ended within ${LINKS_LIMIT / 1000} s`
      : stderr?.trim() || (error as Error).message;
    return {
      code: 'E_LINKS',
      message: `${ranks} processes that work together over ${LINK_NAMES[backend]} fail: ${reason}`,
      hint: 'Training on several would fail likewise; the command shows how they are connected.',
      command: backend === 'nccl' ? 'nvidia-smi topo -m' : 'ip addr show lo',
    };
  }
}

/** What a user knows backends as. */
export const LINK_NAMES = { gloo: 'Gloo', nccl: 'NCCL' } as const;
