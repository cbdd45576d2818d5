/** The room of tensors: `Tensor`, operators, scopes, autograd, devices, memory, random state. */

export * from './autograd.js';
export * from './background.js';
export * from './create.js';
export * from './device.js';
export { checkOperators, type Layout, type MemoryFormat, type Scalar } from './door.js';
export * from './choose-device.js';
export * from './dtype.js';
export { DisposedError, OperatorError, ThreadError } from './errors.js';
export {
  asHostMemory,
  startGhostTrace,
  tracedBlock,
  type GhostAllocation,
  type GhostBegin,
  type GhostCall,
  type GhostTrace,
  type TraceLine,
} from './ghost-trace.js';
export { emptyOnHost, sendTo } from './host-memory.js';
export * from './mapped-file.js';
export * from './memory.js';
export * from './profile.js';
export type { Device, TorchFacts } from './native.js';
export * from './operators.generated.js';
export * from './random.js';
export {
  hold,
  scope,
  scopeAsync,
  tensorsIn,
  TENSORS,
  type Holding,
  type TensorHolder,
} from './scope.js';
export * from './tensor.js';
export * from './work-kinds.js';
export { liveSites, traceTensors } from './trace.js';
