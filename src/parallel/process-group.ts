/**
 * `ProcessGroup`: collectives between ranks over c10d, Gloo on CPUs and NCCL on GPUs. A fake group moves nothing and can be any
 * rank of any number, for planning.
 *
 * All ranks of a group make the same calls in the same order. Each call has a label, for example the segment's name: what does
 * not end in time is told by it, with the rank that is missing.
 */

import { EnvironmentError, type PatinaError } from '../base/errors.js';
import { B } from '../torch/door.js';
import { expectDone, expectValue, failureError, isFailure } from '../torch/errors.js';
import { native, type NativeCollective, type NativeFailure } from '../torch/native.js';
import type { Device, Tensor } from '../torch/index.js';
import type { Heartbeat } from './heartbeat.js';
import { Ledger, type CollectiveKind } from './ledger.js';
import { soon } from './soon.js';
import {
  callText,
  latestCalls,
  REMEMBERED,
  whoIsAstray,
  whoIsMissing,
  type GroupCall,
} from './who-is-missing.js';

export type Backend = 'gloo' | 'nccl' | 'fake';

export type Reduction = 'sum' | 'max';

export interface CallOptions {
  /** What the call is for, for example the segment's name. */
  readonly label: string;
}

export interface ReduceOptions extends CallOptions {
  /** @default 'sum' */
  readonly reduction?: Reduction;
}

/** What `ProcessGroup.open` needs to know. */
export interface GroupOptions {
  readonly name: string;
  readonly backend: Backend;
  /** The ranks of its members in the job, in the order of their ranks in the group. */
  readonly ranks: readonly number[];
  /** The rank of this process in the group. */
  readonly rank: number;
  /** Where the tensors of its calls lie. */
  readonly device: Device;
  /** Milliseconds until a call has failed. */
  readonly timeout: number;
  /** Where the store is that introduces its members to each other, and the prefix of their keys. */
  readonly host: string;
  readonly port: number;
  readonly prefix: string;
  /** The address of this machine at which Gloo listens. */
  readonly address: string;
  /** `null` for a fake group. */
  readonly heartbeat: Heartbeat | null;
}

export class ProcessGroup {
  /** Calls so far, by kind and dtype. */
  readonly ledger = new Ledger();
  private calls = 0;
  /** The latest, the last one first. */
  private readonly latest: GroupCall[] = [];
  private error: PatinaError | undefined;

  private constructor(
    private handle: number,
    private readonly options: GroupOptions,
  ) {}

  /** Connects the members of a group; all of them call it. */
  static async open(options: GroupOptions): Promise<ProcessGroup> {
    const { name, backend, rank, ranks, device, timeout, host, port, prefix, address } = options;
    const opened = expectValue(
      native.openGroup(backend, rank, ranks.length, device, timeout, host, port, prefix, address),
      'ProcessGroup.open()',
    );
    const handle = await opened.catch((reason: unknown) => {
      if (!isFailure(reason)) throw reason;
      if (reason.kind === 'device') throw failureError(reason, { operator: 'ProcessGroup.open()' });
      throw new EnvironmentError(
        `the ${backend} group '${name}' cannot be connected: ${reason.message}`,
        {
          code: 'E_COLLECTIVE',
          hint: 'See the logs of all ranks, and whether a firewall stands between them.',
        },
      );
    });
    return new ProcessGroup(handle, options);
  }

  /** A group of which nothing is there but this rank: its calls check and count, and leave tensors as they are. */
  static async fake(rank: number, size: number, device: Device = 'meta'): Promise<ProcessGroup> {
    const ranks = Array.from({ length: size }, (_, index) => index);
    const nowhere = { timeout: 0, host: '', port: 0, prefix: '', address: '', heartbeat: null };
    return ProcessGroup.open({ name: 'fake', backend: 'fake', ranks, rank, device, ...nowhere });
  }

  get name(): string {
    return this.options.name;
  }

  get backend(): Backend {
    return this.options.backend;
  }

  /** The rank of this process in the group. */
  get rank(): number {
    return this.options.rank;
  }

  get size(): number {
    return this.options.ranks.length;
  }

  /** The ranks of its members in the job. */
  get ranks(): readonly number[] {
    return this.options.ranks;
  }

  /** Reduces a tensor over all ranks, in place. */
  allReduce(tensor: Tensor, { label, reduction = 'sum' }: ReduceOptions): Work {
    return this.start('all-reduce', tensor, label, ['tensor'], () =>
      native.allReduce(this.handle, tensor.handle, reduction),
    );
  }

  /** Reduces `whole` over all ranks and gives each its shard of the result: rank i the i-th of equal ones. */
  reduceScatter(shard: Tensor, whole: Tensor, { label, reduction = 'sum' }: ReduceOptions): Work {
    return this.start('reduce-scatter', whole, label, ['shard', 'whole'], () =>
      native.reduceScatter(this.handle, shard.handle, whole.handle, reduction),
    );
  }

  /** Gathers the shards of all ranks in `whole`, that of rank i as the i-th. */
  allGather(whole: Tensor, shard: Tensor, { label }: CallOptions): Work {
    return this.start('all-gather', whole, label, ['whole', 'shard'], () =>
      native.allGather(this.handle, whole.handle, shard.handle),
    );
  }

  /** Gives all ranks the tensor of one, by its rank in the group. */
  broadcast(tensor: Tensor, { label, root = 0 }: CallOptions & { readonly root?: number }): Work {
    return this.start('broadcast', tensor, label, ['tensor', 'root'], () =>
      native.broadcast(this.handle, tensor.handle, root),
    );
  }

  /** Ends when all ranks have called it. */
  barrier({ label }: CallOptions): Work {
    return this.start('barrier', null, label, [], () => native.barrier(this.handle));
  }

  /** Disconnects, after the calls so far. Where one of them has failed, the connections go with the process. */
  async close(): Promise<void> {
    const closed = expectValue(native.closeGroup(this.handle), 'ProcessGroup.close()');
    this.handle = -1;
    if (this.error === undefined) await closed;
    else closed.catch(() => undefined);
  }

  private start(
    kind: CollectiveKind,
    tensor: Tensor | null,
    label: string,
    args: readonly string[],
    begin: () => NativeCollective,
  ): Work {
    const { heartbeat } = this.options;
    const failed = this.error ?? heartbeat?.error;
    if (failed !== undefined) throw failed;
    const dtype = tensor?.dtype ?? null;
    const elements = tensor?.numel ?? 0;
    const what = tensor === null ? kind : `${kind} of ${elements} ${dtype!}`;
    const call = { index: this.calls + 1, what, label };
    const started = begin();
    if (isFailure(started)) {
      throw failureError(started, { operator: `${what} for '${label}'`, arguments: args });
    }
    this.calls++;
    this.ledger.add(kind, dtype, elements);
    // Of a ghost run there is a work too, with the tensors that a real call would hold.
    if (started === undefined || heartbeat === null) return new Work(null, B[0]!);
    const work = this.backend === 'nccl' ? B[0]! : 0;
    heartbeat.call(this.key, callText(call, this.latest));
    this.latest.unshift(call);
    this.latest.splice(REMEMBERED);
    return new Work(this.follow(started, call, heartbeat), work);
  }

  /** The end of a call, or the error that tells why it has none. */
  private async follow(ended: Promise<void>, call: GroupCall, heartbeat: Heartbeat): Promise<void> {
    try {
      await heartbeat.guard(ended);
    } catch (reason) {
      this.error ??= isFailure(reason)
        ? await this.explain(reason, call, heartbeat)
        : (reason as PatinaError);
      throw this.error;
    }
  }

  /** Finds out which rank is at fault, and tells all of them. */
  private async explain(
    failure: NativeFailure,
    call: GroupCall,
    heartbeat: Heartbeat,
  ): Promise<PatinaError> {
    const place = `${call.what} for '${call.label}' (call ${call.index} of the group '${this.name}')`;
    if (/out of memory/i.test(failure.message)) {
      return failureError({ ...failure, kind: 'memory' }, { operator: place });
    }
    const late = /timed? ?out/i.test(failure.message);
    // A connection that breaks is that of a rank that is gone: it will be missed.
    const lost = await soon(heartbeat.lost, late ? heartbeat.lag : heartbeat.patience);
    if (lost !== undefined) return lost;
    const peers = heartbeat.peers();
    const others = new Map(
      this.ranks
        .filter((_, index) => index !== this.rank)
        .map((rank) => [rank, latestCalls(peers[rank]!.state, this.key)]),
    );
    const astray = whoIsAstray(call, others);
    if (astray !== null) {
      return heartbeat.report(`E_COLLECTIVE_ORDER ${place} does not meet its like: ${astray}`);
    }
    if (!late) return heartbeat.report(`E_COLLECTIVE ${place} failed: ${failure.message}`);
    return heartbeat.report(
      `E_COLLECTIVE_TIMEOUT ${place} has not ended within ${this.options.timeout / 1000} s: ${whoIsMissing(call, others)}`,
    );
  }

  /** What the group is called in heartbeats. */
  private get key(): string {
    return this.options.prefix;
  }
}

/** A call under way. Its tensors are kept alive until it has ended or a stream waits for it; they may be read or written only after one of the waits. */
export class Work {
  constructor(
    /** `null` in a fake group, whose calls end when they are waited for. */
    private readonly ended: Promise<void> | null,
    /** The handle of NCCL's work, or a ghost's; 0 elsewhere. */
    private handle: number,
  ) {
    // Who never waits learns of the failure from the next call of the group. NCCL holds the tensors of a call that has ended until it is waited
    // for, or its watchdog looks.
    this.ended?.then(
      () => this.order(),
      () => this.drop(),
    );
  }

  /**
   * Until it has ended, for the host.
   *
   * @throws EnvironmentError `E_RANK_LOST`, `E_RANK_FAILED`, `E_COLLECTIVE_ORDER`, `E_COLLECTIVE_TIMEOUT` or `E_COLLECTIVE`, the same on all ranks
   */
  async wait(): Promise<void> {
    if (this.ended === null) await this.waitOnStream();
    else await this.ended;
  }

  /**
   * Until its tensors may be given to operators: with NCCL, the current stream waits for the call when it comes to it, and the
   * promise resolves at once; from then on they live no longer than whoever has them wants. On the CPU it is `wait`.
   */
  async waitOnStream(): Promise<void> {
    if (this.handle > 0) this.order();
    else if (this.ended !== null) await this.ended;
  }

  private order(): void {
    if (this.handle > 0) expectDone(native.orderStream(this.handle), 'waitOnStream()');
    this.drop();
  }

  private drop(): void {
    if (this.handle > 0) expectDone(native.dropWork(this.handle), 'Work');
    this.handle = 0;
  }
}
