/**
 * `rendezvous()`: the ranks of a job find each other. What it gives, a `World`, is this rank's place, the store, the heartbeat and
 * the group of all ranks.
 */

import { createSocket } from 'node:dgram';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { EnvironmentError, PatinaError, UsageError } from '../base/errors.js';
import { torchFacts, type Device } from '../torch/index.js';
import { placeFromEnvironment, type RankPlace } from './environment.js';
import { exchange } from './exchange.js';
import { Heartbeat, type HeartbeatOptions } from './heartbeat.js';
import { LauncherWatch } from './launcher.js';
import { failureText, lossError } from './loss.js';
import { ProcessGroup, type Backend } from './process-group.js';
import { Store, type StoreOptions } from './store.js';

export interface RendezvousOptions {
  /** @default from the environment variables */
  readonly place?: RankPlace;
  /** @default 'nccl' where there are GPUs, else 'gloo' */
  readonly backend?: Exclude<Backend, 'fake'>;
  /** Milliseconds in which all ranks must have come. @default 300_000 */
  readonly joinTimeout?: number;
  /** Milliseconds in which a collective must have ended, the wait for the slowest rank included. @default 600_000 */
  readonly timeout?: number;
  readonly heartbeat?: HeartbeatOptions;
  readonly signal?: AbortSignal;
}

/**
 * Meets the other ranks of this job.
 *
 * @throws EnvironmentError `E_RANKS` for contradictory variables, `E_PORT_IN_USE`, `E_STORE` where rank 0 is not reached,
 *   `E_RENDEZVOUS` that names ranks which have not come or came twice, `E_WORLD_SIZE` where ranks differ in their number,
 *   `E_DEVICE` for a rank without a GPU of its own
 */
export async function rendezvous(options: RendezvousOptions = {}): Promise<World> {
  const { place = placeFromEnvironment(), joinTimeout = 300_000, timeout = 600_000 } = options;
  const { nccl, devices } = gpus();
  const backend = options.backend ?? (nccl && devices > 0 ? 'nccl' : 'gloo');
  const device = backend === 'nccl' ? gpuOf(place, devices) : 'cpu';
  const { rank, worldSize: size, address: host } = place;
  const store = await meet(place, { timeout: joinTimeout, signal: options.signal });
  const heartbeat = await Heartbeat.open(store, rank, size, options.heartbeat);
  try {
    const address = await addressTowards(host, store.port);
    const ranks = Array.from({ length: size }, (_, index) => index);
    const common = { backend, device, timeout, host, port: store.port, address, heartbeat };
    const world = { ...common, name: 'world', ranks, rank, prefix: 'group/world' };
    const group = await heartbeat.guard(ProcessGroup.open(world));
    const beside = { ...world, backend: 'gloo', device: 'cpu', name: 'programs' } as const;
    const opening = ProcessGroup.open({ ...beside, prefix: 'group/programs' });
    const programs = await heartbeat.guard(opening);
    return new World(place, store, heartbeat, { group, programs }, common);
  } catch (error) {
    await tellFailure(heartbeat, rank, error);
    await heartbeat.leave();
    store.close();
    throw error;
  }
}

/** Finds the store, and waits in it for the others. @throws also the signal's reason; `E_LAUNCHER_LOST` */
async function meet(
  place: RankPlace,
  { timeout, signal }: { timeout: number; signal: AbortSignal | undefined },
): Promise<Store> {
  const { rank, address, port } = place;
  using launcher = new LauncherWatch(rank);
  const stop = AbortSignal.any([launcher.signal, ...(signal ? [signal] : [])]);
  const joining = { timeout, signal: stop };
  let store: Store | undefined;
  try {
    store = await Store.open(address, port, { server: rank === 0, ...joining });
    await join(store, place, joining);
    return store;
  } catch (error) {
    // The store ends with rank 0: the others shall not wait longer for what does not come.
    if (rank === 0 && store !== undefined) await tellAndLinger(store, place.worldSize, error);
    store?.close();
    // What breaks off a wait says so in its own way.
    throw stop.aborted ? stop.reason : error;
  }
}

/** What the groups of a world have in common. */
type Common = Omit<Parameters<typeof ProcessGroup.open>[0], 'name' | 'ranks' | 'rank' | 'prefix'>;

/** This rank among all of its job. */
export class World {
  readonly rank: number;
  readonly size: number;
  readonly localRank: number;
  readonly backend: Backend;
  /** Where this rank's tensors lie. */
  readonly device: Device;
  /** The group of all ranks. */
  readonly group: ProcessGroup;
  /** A second one of all ranks, on the CPU: what the programs agree on keeps no GPU waiting, and has an order of its own. */
  private readonly programs: ProcessGroup;
  private readonly subgroups: ProcessGroup[] = [];
  private readonly opened = new Map<string, number>();

  constructor(
    readonly place: RankPlace,
    readonly store: Store,
    private readonly heartbeat: Heartbeat,
    { group, programs }: Record<'group' | 'programs', ProcessGroup>,
    private readonly common: Common,
  ) {
    this.group = group;
    this.programs = programs;
    this.rank = place.rank;
    this.size = place.worldSize;
    this.localRank = place.localRank;
    this.backend = common.backend;
    this.device = common.device;
  }

  /** Resolves with what ends the job, if something does: a rank that is dead, hangs or has failed. */
  get lost(): Promise<PatinaError> {
    return this.heartbeat.lost;
  }

  /** Milliseconds within which what ends the job now is known here. */
  get patience(): number {
    return this.heartbeat.patience;
  }

  /** What ends the job, once something does. */
  get loss(): PatinaError | undefined {
    return this.heartbeat.error;
  }

  /**
   * Tells all ranks a value, and gives what each of them has told, by rank. All call it in the same order.
   *
   * @param label what it is for
   * @param own plain data
   */
  exchange<T>(label: string, own: T): Promise<T[]> {
    return exchange(this.programs, own, { label });
  }

  /**
   * A group of some ranks, this one among them; each of them calls it, with the same name and list.
   *
   * @param ranks in the order of their ranks in the group
   */
  async newGroup(name: string, ranks: readonly number[]): Promise<ProcessGroup> {
    const rank = ranks.indexOf(this.rank);
    const valid = ranks.every((each) => Number.isInteger(each) && each >= 0 && each < this.size);
    if (rank < 0 || !valid || new Set(ranks).size < ranks.length) {
      throw new UsageError(
        `rank ${this.rank} of ${this.size} cannot open the group '${name}' of the ranks ${ranks.join(', ')}`,
        { code: 'E_ARGUMENT', hint: 'List different ranks of the job, the own one among them.' },
      );
    }
    const key = `group/${name}/${ranks.join('-')}`;
    const count = this.opened.get(key) ?? 0;
    this.opened.set(key, count + 1);
    const prefix = `${key}/${count}`;
    const group = await this.heartbeat.guard(this.openSubgroup(name, ranks, rank, prefix));
    this.subgroups.push(group);
    return group;
  }

  private async openSubgroup(
    name: string,
    ranks: readonly number[],
    rank: number,
    prefix: string,
  ): Promise<ProcessGroup> {
    await this.store.set(`${prefix}/opened/${this.rank}`, '');
    const { timeout } = this.common;
    await whenAll(ranks, (each) => `${prefix}/opened/${each}`, {
      store: this.store,
      timeout,
      what: `opened the group '${name}'`,
    });
    return ProcessGroup.open({ ...this.common, name, ranks, rank, prefix });
  }

  /**
   * Leaves the job. With the error that ends this rank, all others end with an error that tells it; without one, it waits until all
   * leave: who closes a group while another still opens it ends that one. Rank 0 leaves last, since the store ends with it.
   *
   * @throws what ends the job while the others are waited for
   */
  async close(error?: unknown): Promise<void> {
    const { heartbeat, store } = this;
    try {
      if (error !== undefined) await tellFailure(heartbeat, this.rank, error);
      else if (heartbeat.error === undefined) await heartbeat.guard(this.allClose());
    } finally {
      for (const group of [...this.subgroups, this.programs, this.group]) {
        const closed = group.close();
        if (heartbeat.error === undefined) await closed;
      }
    }
    // A call of Gloo that waits for a lost rank cannot be broken off: the heartbeat ends a process that hangs in one.
    if (heartbeat.error !== undefined) return;
    // The heartbeat goes on meanwhile: one that dies now is not waited for.
    if (this.rank === 0) await heartbeat.guard(this.othersLeft());
    await heartbeat.leave();
    store.close();
  }

  private async allClose(): Promise<void> {
    await this.store.set(closingKey(this.rank), '');
    for (let rank = 0; rank < this.size; rank++) {
      await this.until(() => this.store.check([closingKey(rank)]));
    }
  }

  private async othersLeft(): Promise<void> {
    for (let rank = 1; rank < this.size; rank++) {
      await this.until(async () => (await this.store.get(heartbeatKey(rank))) === 'left');
    }
  }

  /** Until it is so, or the job is lost. */
  private async until(isSo: () => Promise<boolean>): Promise<void> {
    while (this.loss === undefined && !(await isSo())) await sleep(20);
  }
}

/** Ends the other ranks with the error that ends this one, unless all have one already. */
async function tellFailure(heartbeat: Heartbeat, rank: number, error: unknown): Promise<void> {
  if (heartbeat.error !== undefined) return;
  const message = error instanceof Error ? error.message : inspect(error);
  const exitCode = error instanceof PatinaError ? error.exitCode : 3;
  await heartbeat.report(failureText(exitCode, `rank ${rank} has failed: ${message}`));
}

const heartbeatKey = (rank: number): string => `heartbeat/${rank}`;
const closingKey = (rank: number): string => `closing/${rank}`;

/** Tells the others that this rank is there, and waits for them. */
async function join(
  store: Store,
  { rank, worldSize: size }: RankPlace,
  options: StoreOptions,
): Promise<void> {
  if (rank === 0) {
    await store.set('lost', '', options);
    await store.set('size', `${size}`, options);
  }
  await store.wait(['size'], options);
  const me = `process ${process.pid} on ${hostname()}`;
  const job = `the job at ${store.host}:${store.port}`;
  if (await store.check(['met'], options)) {
    throw stray(`${job} has all its ranks already; ${me} is none of them`);
  }
  if ((await store.add(`joined/${rank}`, 1, options)) > 1) {
    const other = await store.get(`who/${rank}`, options);
    throw stray(`two processes are rank ${rank} of ${job}: ${me} and ${other ?? 'another'}`);
  }
  const expected = Number(await store.get('size', options));
  if (size !== expected) {
    const text = `E_WORLD_SIZE rank ${rank} was started as one of ${size}, rank 0 as one of ${expected}`;
    await store.set('lost', text, options);
    throw lossError(text);
  }
  await store.set(`who/${rank}`, me, options);
  await store.set(heartbeatKey(rank), '0', options);
  const all = Array.from({ length: size }, (_, index) => index);
  await whenAll(all, heartbeatKey, { store, what: 'come', ...options });
  if (rank === 0) await store.set('met', '', options);
}

function stray(message: string): EnvironmentError {
  return new EnvironmentError(message, {
    code: 'E_RENDEZVOUS',
    hint: 'Give each job a MASTER_PORT of its own, and each rank one process.',
  });
}

/** How long rank 0 holds the store for the others to read why they do not meet, in milliseconds: once all have come, and for those that have not. */
const LINGER = { toRead: 1_000, toCome: 5_000 };

async function tellAndLinger(store: Store, size: number, error: unknown): Promise<void> {
  if (!(error instanceof EnvironmentError)) return;
  await store.set('lost', `${error.code} ${error.message}`);
  const end = performance.now() + LINGER.toCome;
  for (let rank = 1; rank < size && performance.now() < end;) {
    if (await store.check([`joined/${rank}`])) rank++;
    else await sleep(20);
  }
  await sleep(LINGER.toRead);
}

/** Waits until all of these ranks have set their keys, and names those that have not. */
async function whenAll(
  ranks: readonly number[],
  key: (rank: number) => string,
  { store, what, ...options }: StoreOptions & { store: Store; what: string },
): Promise<void> {
  const { timeout = 0, signal } = options;
  const end = performance.now() + timeout;
  const missing = new Set(ranks);
  for (;;) {
    for (const rank of missing) if (await store.check([key(rank)])) missing.delete(rank);
    if (missing.size === 0) return;
    const lost = await store.get('lost');
    if (lost) throw lossError(lost);
    if (performance.now() > end) break;
    await sleep(20, undefined, { signal });
  }
  const names = [...missing].join(', ');
  throw new EnvironmentError(
    `${missing.size} of ${ranks.length} ranks have not ${what} within ${timeout / 1000} s: ${names}`,
    {
      code: 'E_RENDEZVOUS',
      hint: 'See their logs: have they been started, and do they reach this machine?',
    },
  );
}

/** The address of this machine from which it reaches the host: where the others reach it. */
async function addressTowards(host: string, port: number): Promise<string> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  try {
    // Nothing is sent: connecting a datagram socket only looks up the route.
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(port, host, resolve);
    });
    return socket.address().address;
  } catch (cause) {
    throw new EnvironmentError(`the host ${host} is not reached: ${(cause as Error).message}`, {
      code: 'E_STORE',
      hint: 'Set MASTER_ADDR to a name or an IPv4 address of the host of rank 0.',
      cause,
    });
  } finally {
    socket.close();
  }
}

function gpus(): { nccl: boolean; devices: number } {
  const { cuda, ncclError } = torchFacts();
  return { nccl: ncclError === undefined, devices: cuda?.devices.length ?? 0 };
}

/** The GPU of a rank. A launcher may show each rank one GPU only. */
function gpuOf({ rank, localRank }: RankPlace, devices: number): Device {
  if (devices === 1) return 'cuda:0';
  if (localRank < devices) return `cuda:${localRank}`;
  throw new EnvironmentError(
    `rank ${rank} is number ${localRank} on this machine, which has ${devices} GPUs: they count from 0`,
    { code: 'E_DEVICE', hint: 'Start as many processes on a machine as it has GPUs.' },
  );
}
