/**
 * Which rank of how many this process is, and where all meet: from the environment variables of torchrun, Slurm, Open MPI and
 * Kubernetes' training operators.
 *
 * torchrun's names are what most launchers set, and count first. Where they are absent, or give only the meeting place, those of
 * another launcher count. What is partial or contradicts itself is an error: guessing would make ranks wait for each other for ever.
 */

import { EnvironmentError } from '../base/errors.js';
import { firstHost } from './nodelist.js';

export type Launcher = 'none' | 'torchrun' | 'slurm' | 'openmpi' | 'kubernetes';

/** The place of one process among all of its job. */
export interface RankPlace {
  readonly launcher: Launcher;
  readonly rank: number;
  readonly worldSize: number;
  /** The rank among those on this machine, which chooses the GPU. */
  readonly localRank: number;
  /** Host of rank 0. */
  readonly address: string;
  /** Port at which rank 0 listens; 0 if it may choose, being alone. */
  readonly port: number;
}

type Variables = Readonly<Record<string, string | undefined>>;

const DEFAULT_PORT = 29500;
const LOOPBACK = '127.0.0.1';

/**
 * @param variables by default those of this process
 * @throws EnvironmentError `E_RANKS` for variables that are partial, malformed or contradict each other, and names them
 */
export function placeFromEnvironment(variables: Variables = process.env): RankPlace {
  const read = new Reader(variables);
  const launcher = launcherOf(read);
  const place = PLACES[launcher](read);
  const { rank, worldSize, localRank } = place;
  if (worldSize.value < 1) throw read.wrong(worldSize.name, 'is no number of processes');
  if (rank.value >= worldSize.value) {
    throw read.contradiction([rank.name, worldSize.name], `ranks count from 0`);
  }
  if (localRank.value > rank.value) {
    throw read.contradiction([localRank.name, rank.name], 'a local rank is at most the rank');
  }
  if (worldSize.value > 1 && place.address === undefined) {
    throw read.missing('MASTER_ADDR', 'the host of rank 0', [rank.name, worldSize.name]);
  }
  return {
    launcher,
    rank: rank.value,
    worldSize: worldSize.value,
    localRank: localRank.value,
    address: place.address ?? LOOPBACK,
    port: place.port ?? (worldSize.value === 1 ? 0 : DEFAULT_PORT),
  };
}

/** Which machine this is, of how many that run equally many ranks each, and where all ranks meet. */
export interface NodePlace {
  readonly index: number;
  readonly count: number;
  readonly address: string;
  readonly port: number;
}

/**
 * The place of this machine for a process that starts the ranks on it, `undefined` if it is the only one: Slurm with one task on
 * each machine, or a pod of Kubernetes.
 *
 * @throws EnvironmentError `E_RANKS` as `placeFromEnvironment`, and where this process is a rank itself
 */
export function nodeFromEnvironment(variables: Variables = process.env): NodePlace | undefined {
  const read = new Reader(variables);
  const launcher = read.has('PET_NNODES') ? 'kubernetes' : launcherOf(read);
  if (launcher === 'none') return undefined;
  const { rank, worldSize, localRank, address, port } =
    launcher === 'kubernetes' ? podOf(read) : PLACES[launcher](read);
  if (launcher === 'torchrun' || launcher === 'openmpi' || localRank.value > 0) {
    throw read.contradiction([rank.name, worldSize.name], 'this process is a rank itself');
  }
  if (worldSize.value === 1) return undefined;
  if (address === undefined) {
    throw read.missing('MASTER_ADDR', 'the host of rank 0', [rank.name, worldSize.name]);
  }
  return { index: rank.value, count: worldSize.value, address, port: port ?? DEFAULT_PORT };
}

/** A number and the variable that it is from. */
interface Named {
  readonly name: string;
  readonly value: number;
}

interface Found {
  readonly rank: Named;
  readonly worldSize: Named;
  readonly localRank: Named;
  readonly address?: string | undefined;
  readonly port?: number | undefined;
}

function launcherOf(read: Reader): Launcher {
  if (read.has('RANK') && read.has('WORLD_SIZE')) return 'torchrun';
  if (read.has('OMPI_COMM_WORLD_RANK') || read.has('OMPI_COMM_WORLD_SIZE')) return 'openmpi';
  if (read.has('SLURM_PROCID')) return 'slurm';
  if (read.has('PET_NODE_RANK') || read.has('PET_NNODES')) return 'kubernetes';
  return read.has('RANK') || read.has('WORLD_SIZE') ? 'torchrun' : 'none';
}

const PLACES: Record<Launcher, (read: Reader) => Found> = {
  none: () => ({ rank: ZERO, worldSize: ONE, localRank: ZERO }),

  torchrun(read) {
    const rank = read.integer('RANK', ['WORLD_SIZE']);
    const worldSize = read.integer('WORLD_SIZE', ['RANK']);
    // Operators of Kubernetes give each pod a rank by the same names; a pod of several processes has to start them.
    if (!read.has('LOCAL_RANK')) requireOneProcess(read);
    const localRank = read.optional('LOCAL_RANK') ?? ZERO;
    const localSize = read.optional('LOCAL_WORLD_SIZE');
    if (localSize !== undefined && localRank.value >= localSize.value) {
      throw read.contradiction([localRank.name, localSize.name], 'local ranks count from 0');
    }
    return { rank, worldSize, localRank, ...meeting(read) };
  },

  openmpi(read) {
    const rank = read.integer('OMPI_COMM_WORLD_RANK', ['OMPI_COMM_WORLD_SIZE']);
    const worldSize = read.integer('OMPI_COMM_WORLD_SIZE', ['OMPI_COMM_WORLD_RANK']);
    const localRank = read.integer('OMPI_COMM_WORLD_LOCAL_RANK', [rank.name]);
    read.agree('RANK', rank);
    read.agree('WORLD_SIZE', worldSize);
    const here = read.optional('OMPI_COMM_WORLD_LOCAL_SIZE')?.value === worldSize.value;
    return { rank, worldSize, localRank, ...(here ? { address: LOOPBACK } : {}), ...meeting(read) };
  },

  slurm(read) {
    const rank = read.integer('SLURM_PROCID', []);
    const tasks = read.has('SLURM_STEP_NUM_TASKS') ? 'SLURM_STEP_NUM_TASKS' : 'SLURM_NTASKS';
    if (!read.has('SLURM_STEP_ID')) return batchScript(read, tasks);
    const worldSize = read.integer(tasks, [rank.name]);
    const localRank = read.integer('SLURM_LOCALID', [rank.name]);
    read.agree('RANK', rank);
    read.agree('WORLD_SIZE', worldSize);
    const list = ['SLURM_STEP_NODELIST', 'SLURM_JOB_NODELIST', 'SLURM_NODELIST'].find((name) =>
      read.has(name),
    );
    const place = meeting(read);
    return {
      rank,
      worldSize,
      localRank,
      address: place.address ?? (list && firstHost(read.text(list)!, list)),
      port: place.port ?? slurmPort(read),
    };
  },

  kubernetes(read) {
    requireOneProcess(read);
    const pod = podOf(read);
    read.agree('RANK', pod.rank);
    read.agree('WORLD_SIZE', pod.worldSize);
    return pod;
  },
};

const ZERO: Named = { name: 'the rank', value: 0 };
const ONE: Named = { name: 'the world size', value: 1 };

function podOf(read: Reader): Found {
  const rank = read.integer('PET_NODE_RANK', ['PET_NNODES']);
  const worldSize = read.integer('PET_NNODES', ['PET_NODE_RANK']);
  return { rank, worldSize, localRank: ZERO, ...meeting(read) };
}

/** The script of a batch job has the variables of task 0, but the tasks are what srun starts. */
function batchScript(read: Reader, tasks: string): Found {
  const count = read.optional(tasks);
  if (count !== undefined && count.value > 1) {
    throw new EnvironmentError(
      `${tasks}=${count.value}, but this is the script of the Slurm job, not one of its tasks: SLURM_STEP_ID is not set`,
      { code: 'E_RANKS', hint: 'Start the command with srun; or, without Slurm, with --nproc.' },
    );
  }
  return { rank: ZERO, worldSize: ONE, localRank: ZERO };
}

/** A port that jobs which share a host do not share: by job and step, below the range that systems give out. */
function slurmPort(read: Reader): number {
  const id = (name: string): number => read.optional(name)?.value ?? 0;
  return 15000 + ((id('SLURM_JOB_ID') * 7 + id('SLURM_STEP_ID')) % 15000);
}

function requireOneProcess(read: Reader): void {
  const name = 'PET_NPROC_PER_NODE';
  // It may be a word, such as `auto`, which operators set by default for pods of one process too.
  if (!(Number(read.text(name) ?? '1') > 1)) return;
  throw new EnvironmentError(
    `${name}=${read.text(name)!}: this pod is to run that many processes, but LOCAL_RANK is not set`,
    { code: 'E_RANKS', hint: 'Let the pod start them: run its command with --nproc.' },
  );
}

/** Where all meet, as far as it is said; operators of Kubernetes have names of their own for it. */
function meeting(read: Reader): { address?: string; port?: number } {
  const endpoint = /^\[?(.+?)\]?:(\d+)$/.exec(read.text('PET_RDZV_ENDPOINT') ?? '');
  const address = read.text('MASTER_ADDR') ?? read.text('PET_MASTER_ADDR') ?? endpoint?.[1];
  const given = read.optional('MASTER_PORT') ?? read.optional('PET_MASTER_PORT');
  const ofEndpoint = endpoint
    ? { name: 'PET_RDZV_ENDPOINT', value: Number(endpoint[2]) }
    : undefined;
  const port = given ?? ofEndpoint;
  if (port !== undefined && !(port.value >= 1 && port.value <= 65535)) {
    throw read.wrong(port.name, 'is no port from 1 to 65535');
  }
  return { ...(address && { address }), ...(port && { port: port.value }) };
}

/** Reads variables and says what is wrong with them. Empty ones are not set. */
class Reader {
  constructor(private readonly variables: Variables) {}

  text(name: string): string | undefined {
    return this.variables[name]?.trim() || undefined;
  }

  has(name: string): boolean {
    return this.text(name) !== undefined;
  }

  /** A number that must be there, since the others are. */
  integer(name: string, others: readonly string[]): Named {
    const found = this.optional(name);
    if (found !== undefined) return found;
    throw this.missing(name, 'a whole number', others);
  }

  optional(name: string): Named | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^\d{1,9}$/.test(text)) throw this.wrong(name, 'is no whole number from 0');
    return { name, value: Number(text) };
  }

  /** One of torchrun's names beside another launcher's must say the same. */
  agree(name: string, with_: Named): void {
    const found = this.optional(name);
    if (found === undefined || found.value === with_.value) return;
    throw this.contradiction([name, with_.name], 'they should be the same');
  }

  wrong(name: string, what: string): EnvironmentError {
    return this.error(`${name}='${this.text(name) ?? ''}' ${what}`);
  }

  missing(name: string, what: string, others: readonly string[]): EnvironmentError {
    const set = others.filter((other) => this.has(other));
    const beside = set.map((other) => `${other}=${this.text(other)!}`).join(' and ');
    return this.error(`${name} (${what}) is not set${beside && `, but ${beside}`}`);
  }

  contradiction(names: readonly string[], why: string): EnvironmentError {
    const values = names.map((name) => `${name}=${this.text(name) ?? 'not set'}`);
    return this.error(`${values.join(' and ')} contradict each other: ${why}`);
  }

  private error(message: string): EnvironmentError {
    return new EnvironmentError(message, {
      code: 'E_RANKS',
      hint: 'Let one launcher set these variables (--nproc, torchrun, srun, mpirun or an operator), or unset them to run alone.',
    });
  }
}
