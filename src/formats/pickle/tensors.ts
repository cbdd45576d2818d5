/**
 * Tensors in pickles: torch's `_rebuild_*` functions as checks. A tensor is (storage, offset, sizes, strides); every one
 * of its elements must lie within the storage, and no arithmetic on the file's numbers may wrap or lose digits.
 */
import { dtypeBytes, type StoredDType } from '../stored.js';
import { storedName } from './dtypes.js';
import { describe, Token, tupleItems, type Builder, type Item } from './tokens.js';
import { PickleStorage, PickleTensor, TorchDType, TorchSize } from './values.js';

/** ATen's own iterators stop at 64 dimensions. */
const MAX_DIMENSIONS = 64;
const MAX_COUNT = BigInt(Number.MAX_SAFE_INTEGER);

/** A storage class such as `torch.FloatStorage`: only ever named inside a persistent id. */
export class StorageClass extends Token {
  constructor(
    name: string,
    readonly dtype: PickleStorage['dtype'],
  ) {
    super(name);
  }
}

/** `_rebuild_tensor(storage, offset, size, stride)`, before torch 0.4. */
export const rebuildTensor = new Token('torch._utils._rebuild_tensor', (args, builder) => {
  count(args, 4, 4, 'torch._utils._rebuild_tensor', builder);
  return view(args, undefined, false, builder);
});

/** `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])`. */
export const rebuildTensorV2 = new Token('torch._utils._rebuild_tensor_v2', (args, builder) => {
  count(args, 6, 7, 'torch._utils._rebuild_tensor_v2', builder);
  const [, , , , requiresGrad, hooks, metadata] = args;
  checkEmpty(hooks, 'backward hooks', builder);
  checkEmpty(metadata, 'conjugate or negative bits', builder);
  return view(args, undefined, flag(requiresGrad, builder), builder);
});

/** `_rebuild_tensor_v3`: the same with a dtype of its own over an untyped storage. */
export const rebuildTensorV3 = new Token('torch._utils._rebuild_tensor_v3', (args, builder) => {
  count(args, 7, 8, 'torch._utils._rebuild_tensor_v3', builder);
  const [, , , , requiresGrad, hooks, dtype, metadata] = args;
  checkEmpty(hooks, 'backward hooks', builder);
  checkEmpty(metadata, 'conjugate or negative bits', builder);
  const stored = dtype instanceof TorchDType ? storedName(dtype.name) : undefined;
  if (stored === undefined) throw bad(builder, `its dtype is ${describe(dtype)}`);
  return view(args, stored, flag(requiresGrad, builder), builder);
});

/** `_rebuild_parameter(data, requires_grad, backward_hooks)`. */
export const rebuildParameter = new Token('torch._utils._rebuild_parameter', (args, builder) => {
  count(args, 3, 3, 'torch._utils._rebuild_parameter', builder);
  return parameter(args, builder);
});

/** The same with Python attributes, which carry no weights and are dropped. */
export const rebuildParameterWithState = new Token(
  'torch._utils._rebuild_parameter_with_state',
  (args, builder) => {
    count(args, 4, 4, 'torch._utils._rebuild_parameter_with_state', builder);
    return parameter(args, builder);
  },
);

/** `torch.Tensor` and `torch.nn.Parameter`, as arguments of the next function. */
export const tensorClass = new Token('torch.Tensor');
export const parameterClass = new Token('torch.nn.Parameter');

const FROM_TYPE = new Set<Item | undefined>([
  rebuildTensor,
  rebuildTensorV2,
  rebuildTensorV3,
  rebuildParameter,
]);

/**
 * `_rebuild_from_type_v2(function, type, args, state)`: torch writes it for tensors with Python attributes. It calls what
 * it is given, so it may be given only the functions above.
 */
export const rebuildFromType = new Token('torch._tensor._rebuild_from_type_v2', (args, builder) => {
  count(args, 4, 4, 'torch._tensor._rebuild_from_type_v2', builder);
  const [rebuild, type, inner] = args;
  const innerArgs = inner === undefined ? undefined : tupleItems(inner);
  if (!FROM_TYPE.has(rebuild) || !(type === tensorClass || type === parameterClass) || !innerArgs) {
    throw bad(builder, `it is to be made by ${describe(rebuild)} as ${describe(type)}`);
  }
  return (rebuild as typeof rebuildTensor).call!(innerArgs, builder);
});

function view(
  [storage, offsetItem, sizeItem, strideItem]: readonly Item[],
  ownDType: StoredDType | undefined,
  requiresGrad: boolean,
  builder: Builder,
): PickleTensor {
  if (!(storage instanceof PickleStorage))
    throw bad(builder, `its storage is ${describe(storage)}`);
  const dtype = ownDType ?? (storage.dtype === 'untyped' ? 'U8' : storage.dtype);
  const offset = integer(offsetItem, 'offset', builder);
  const sizes = integers(sizeItem, 'size', builder);
  const strides = integers(strideItem, 'stride', builder);
  if (sizes.length !== strides.length) {
    throw bad(builder, `it has ${sizes.length} sizes and ${strides.length} strides`);
  }
  const elements = sizes.reduce((product, size) => product * size, 1n);
  const isEmpty = elements === 0n;
  const last = sizes.reduce((sum, size, axis) => sum + (size - 1n) * strides[axis]!, offset);
  const room = BigInt(Math.floor(storage.bytes / dtypeBytes(dtype)));
  if (elements > MAX_COUNT || sizes.some((size) => size > MAX_COUNT)) {
    throw bad(builder, `its shape [${sizes.join(', ')}] has more than 2^53 elements`);
  }
  if (!isEmpty && last >= room) {
    throw bad(
      builder,
      `shape [${sizes.join(', ')}], strides [${strides.join(', ')}] and offset ${offset} ` +
        `reach element ${last} of a storage of ${room}`,
    );
  }
  // Without elements neither the offset nor the strides mean anything, and they may be beyond 2^53.
  const shape = sizes.map(Number);
  const steps = isEmpty
    ? shape.map(() => 0)
    : strides.map((stride, axis) => (sizes[axis] === 1n ? 0 : Number(stride)));
  const place = isEmpty ? 0 : Number(offset);
  return new PickleTensor(dtype, shape, steps, place, storage, requiresGrad, false);
}

function parameter([data, requiresGrad, hooks]: readonly Item[], builder: Builder): PickleTensor {
  if (!(data instanceof PickleTensor)) throw bad(builder, `a parameter of ${describe(data)}`);
  checkEmpty(hooks, 'backward hooks', builder);
  const { dtype, shape, strides, offset, storage } = data;
  const grad = flag(requiresGrad, builder);
  return new PickleTensor(dtype, shape, strides, offset, storage, grad, true);
}

function count(
  args: readonly Item[],
  least: number,
  most: number,
  name: string,
  builder: Builder,
): void {
  if (args.length < least || args.length > most) {
    throw bad(builder, `${name} has ${args.length} arguments`);
  }
}

function checkEmpty(item: Item | undefined, what: string, builder: Builder): void {
  const isEmpty = item === undefined || item === null || (item instanceof Map && item.size === 0);
  if (!isEmpty) throw bad(builder, `it carries ${what} (${describe(item)})`);
}

function flag(item: Item | undefined, builder: Builder): boolean {
  if (typeof item !== 'boolean') throw bad(builder, `requires_grad is ${describe(item)}`);
  return item;
}

function integer(item: Item | undefined, what: string, builder: Builder): bigint {
  if (typeof item !== 'bigint') throw bad(builder, `its ${what} is ${describe(item)}`);
  if (item < 0n || item >= 2n ** 63n) throw bad(builder, `its ${what} is ${describe(item)}`);
  return item;
}

function integers(item: Item | undefined, what: string, builder: Builder): bigint[] {
  const items =
    item instanceof TorchSize ? item.sizes : item === undefined ? undefined : tupleItems(item);
  if (items === undefined) throw bad(builder, `its ${what} is ${describe(item)}`);
  if (items.length > MAX_DIMENSIONS) {
    throw bad(builder, `it has ${items.length} dimensions, over the limit of ${MAX_DIMENSIONS}`);
  }
  return items.map((each) => integer(each, what, builder));
}

function bad(builder: Builder, what: string): Error {
  return builder.refuse('E_PICKLE_TENSOR', `a tensor is not sound: ${what}.`);
}
