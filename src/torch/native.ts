/** The native addon as TypeScript sees it. A failing call returns a `NativeFailure`, from which `errors.ts` makes the error. */

import { createRequire } from 'node:module';
import { EnvironmentError } from '../base/errors.js';
import { nativeLibrary } from '../base/native-path.js';

/** Where a tensor lies. `cuda` alone is `cuda:0`. */
export type Device = 'cpu' | 'meta' | 'cuda' | `cuda:${number}`;

/** What the native side keeps: it is known by a number. */
export interface Held {
  readonly handle: number;
}

/** What a failing native call returns. */
export interface NativeFailure {
  readonly kind: string;
  readonly message: string;
  /** Position of the argument at fault, counted as in the operator's schema; -1: none. */
  readonly argument: number;
}

export interface SchemaArgument {
  readonly name: string;
  readonly type: string;
  readonly keywordOnly: boolean;
  readonly writes: boolean;
  readonly default?: string;
}

/** An operator's schema in the libtorch in use. */
export interface Schema {
  readonly arguments: readonly SchemaArgument[];
  readonly returns: readonly SchemaArgument[];
}

/** One saved tensor or node of an autograd graph. */
export interface NativeGraphNode {
  readonly name: string;
  readonly saved: readonly { readonly dtype: number; readonly shape: readonly number[] }[];
}

/** Facts of this libtorch and its devices. */
export interface TorchFacts {
  readonly version: string;
  readonly cpuCapability: string;
  readonly threads: number;
  readonly cuda: null | {
    /** CUDA version that the driver supports. */
    readonly driver: string;
    /** CUDA version that libtorch was built with. */
    readonly runtime: string;
    readonly devices: readonly {
      readonly index: number;
      readonly name: string;
      /** Compute capability, for example `9.0`. */
      readonly capability: string;
      readonly totalBytes: number;
      /** Where it was asked for. */
      readonly freeBytes?: number;
    }[];
  };
  /** Why the CUDA libraries could not be opened although there is a driver. */
  readonly cudaError?: string;
  /** Why several GPUs cannot work together: what NCCL lacks. */
  readonly ncclError?: string;
}

/** What a rank was last heard of. */
export interface NativePeer {
  /** A counter, then `group<tab>call` lines; `left` once it has left in order. */
  readonly state: string;
  /** Milliseconds since it last changed. */
  readonly silent: number;
}

/** A call between ranks: a promise of its end; of a fake group, which has none, undefined. */
export type NativeCollective = Failing<Promise<void> | undefined>;

type Failing<T> = T | NativeFailure;

/** The addon's functions. Arguments and results that are not named here travel in the shared buffer. */
export interface Native {
  setBuffer(buffer: Float64Array): NativeFailure | undefined;
  release(count: number): NativeFailure | undefined;
  liveTensors(): number;

  declare(
    name: string,
    overload: string,
    args: readonly string[],
    discard: boolean,
  ): Failing<number>;
  call(operator: number): NativeFailure | undefined;
  putOff(): NativeFailure | undefined;
  forgetPutOff(): NativeFailure | undefined;
  runPutOff(): Failing<Promise<void>>;
  results(): NativeFailure | undefined;
  resolve(operator: number): NativeFailure | undefined;
  intern(text: string): Failing<number>;
  device(text: string): Failing<number>;
  schema(name: string, overload: string): Failing<Schema>;

  grad(): NativeFailure | undefined;
  setGradMode(enabled: boolean): Failing<boolean>;
  gradMode(): boolean;
  inferenceMode<T>(run: () => T): Failing<T>;
  setRequiresGrad(handle: number, value: boolean): NativeFailure | undefined;
  graph(handle: number): Failing<NativeGraphNode[]>;

  fromBuffer(
    buffer: ArrayBufferLike,
    byteOffset: number,
    byteLength: number,
    dtype: number,
  ): NativeFailure | undefined;
  read(
    handle: number,
    buffer: ArrayBufferLike,
    byteOffset: number,
    byteLength: number,
  ): NativeFailure | undefined;
  item(handle: number): NativeFailure | undefined;
  metadata(handle: number): NativeFailure | undefined;
  storage(handle: number): Failing<number>;
  resizeStorage(handle: number, bytes: number): NativeFailure | undefined;

  mapFile(path: string): NativeFailure | undefined;
  closeFile(id: number): NativeFailure | undefined;
  checkFile(id: number): NativeFailure | undefined;
  mappedTensor(id: number, byteOffset: number, dtype: number): NativeFailure | undefined;
  readFile(id: number, offset: number, length: number, target: number): Failing<Promise<void>>;

  memory(device: string): NativeFailure | undefined;
  resetPeak(device: string): NativeFailure | undefined;
  emptyCache(device: string): NativeFailure | undefined;
  setMemoryLimit(device: string, bytes: number): NativeFailure | undefined;

  startProfile(cuda: boolean): NativeFailure | undefined;
  stopProfile(path: string): NativeFailure | undefined;
  beginRange(name: string): Failing<number>;
  endRange(range: number): NativeFailure | undefined;

  startTrace(): NativeFailure | undefined;
  takeTrace(): Failing<readonly [lines: ArrayBuffer, names: readonly string[]]>;
  stopTrace(): NativeFailure | undefined;
  traceEvent(event: number, stream: number, waits: boolean): NativeFailure | undefined;
  tracedBlock(handle: number): Failing<number>;
  traceHost(on: boolean): Failing<boolean>;

  facts(freeMemory: boolean): Failing<TorchFacts>;
  freeMemory(device: string): Failing<number>;
  threads(): number;
  setThreads(count: number): NativeFailure | undefined;
  synchronize(device: string): NativeFailure | undefined;
  synchronizeAsync(device: string): Failing<Promise<void>>;
  newStream(device: string): Failing<number>;
  currentStream(device: string): Failing<number>;
  setStream(stream: number): Failing<number>;
  recordStream(handle: number, stream: number): NativeFailure | undefined;
  newEvent(device: string, timed: boolean): Failing<number>;
  dropEvent(event: number): NativeFailure | undefined;
  recordEvent(event: number, stream: number): NativeFailure | undefined;
  waitEvent(event: number, stream: number): NativeFailure | undefined;
  queryEvent(event: number): Failing<boolean>;
  synchronizeEvent(event: number): NativeFailure | undefined;
  elapsed(from: number, to: number): Failing<number>;

  newGenerator(device: string, seed: bigint): Failing<number>;
  defaultGenerator(device: string): Failing<number>;
  dropGenerator(generator: number): NativeFailure | undefined;
  seedGenerator(generator: number, seed: bigint): NativeFailure | undefined;
  generatorState(generator: number): NativeFailure | undefined;
  setGeneratorState(generator: number, state: number): NativeFailure | undefined;

  openStore(host: string, port: number, server: boolean, timeout: number): Failing<Promise<number>>;
  storePort(store: number): Failing<number>;
  storeSet(store: number, key: string, value: string): Failing<Promise<void>>;
  storeGet(store: number, key: string): Failing<Promise<string | undefined>>;
  storeAdd(store: number, key: string, amount: number): Failing<Promise<number>>;
  storeDelete(store: number, key: string): Failing<Promise<boolean>>;
  storeCheck(store: number, keys: readonly string[]): Failing<Promise<boolean>>;
  closeStore(store: number): NativeFailure | undefined;

  openGroup(
    backend: string,
    rank: number,
    size: number,
    device: string,
    timeout: number,
    host: string,
    port: number,
    prefix: string,
    address: string,
  ): Failing<Promise<number>>;
  allReduce(group: number, tensor: number, reduction: string): NativeCollective;
  reduceScatter(group: number, shard: number, whole: number, reduction: string): NativeCollective;
  allGather(group: number, whole: number, shard: number): NativeCollective;
  broadcast(group: number, tensor: number, root: number): NativeCollective;
  barrier(group: number): NativeCollective;
  orderStream(work: number): NativeFailure | undefined;
  dropWork(work: number): NativeFailure | undefined;
  closeGroup(group: number): Failing<Promise<void>>;

  openHeartbeat(
    host: string,
    port: number,
    rank: number,
    size: number,
    interval: number,
    timeout: number,
    grace: number,
    parent: number,
  ): Failing<Promise<number>>;
  heartbeatLost(heartbeat: number): Failing<Promise<string | undefined>>;
  heartbeatCall(heartbeat: number, group: string, call: string): NativeFailure | undefined;
  heartbeatPeers(heartbeat: number): Failing<NativePeer[]>;
  reportLost(heartbeat: number, text: string): NativeFailure | undefined;
  leaveHeartbeat(heartbeat: number): Failing<Promise<void>>;
}

function load(): Native {
  const path = nativeLibrary('patina');
  try {
    return createRequire(import.meta.url)(path) as Native;
  } catch (cause) {
    throw new EnvironmentError(
      `cannot load the native addon '${path}': ${(cause as Error).message}`,
      {
        code: 'E_ADDON',
        hint: 'Run `npm run setup` to build it anew, then `patina doctor`.',
        cause,
      },
    );
  }
}

export const native: Native = load();
