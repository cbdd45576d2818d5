/** The room of many processes: finding each other, collectives, flat buffers that they share, heartbeats, launching. */

export {
  nodeFromEnvironment,
  placeFromEnvironment,
  type Launcher,
  type NodePlace,
  type RankPlace,
} from './environment.js';
export { FlatBuffer, FlatLayout, type Piece, type Stretch } from './flat-buffer.js';
export type { HeartbeatOptions } from './heartbeat.js';
export type { CollectiveCount, CollectiveKind, Ledger } from './ledger.js';
export type { LinkSpeeds } from './links.js';
export { launchRanks, type LaunchOptions, type LaunchResult } from './launch.js';
export {
  ProcessGroup,
  type Backend,
  type CallOptions,
  type ReduceOptions,
  type Reduction,
  type Work,
} from './process-group.js';
export {
  ALONE,
  errorOfRank,
  isCommon,
  makeCommon,
  onFirst,
  peersOf,
  together,
  type Peers,
} from './peers.js';
export { wholeParts, type TensorPart } from './tensor-part.js';
export { probeBackends, type Backends } from './probe.js';
export { Store, type StoreOptions } from './store.js';
export { rendezvous, type RendezvousOptions, type World } from './world.js';
