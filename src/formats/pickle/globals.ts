/**
 * Every class and function that a checkpoint may name, by its exact dotted name. Nothing is ever looked up, imported or
 * called by name: what is not in this table is refused, and what is in it builds data and does nothing else.
 */
import { STORAGE_CLASSES, TORCH_DTYPES } from './dtypes.js';
import { numpyClass, numpyDType, numpyFromBuffer, numpyReconstruct, numpyScalar } from './numpy.js';
import {
  parameterClass,
  rebuildFromType,
  rebuildParameter,
  rebuildParameterWithState,
  rebuildTensor,
  rebuildTensorV2,
  rebuildTensorV3,
  StorageClass,
  tensorClass,
} from './tensors.js';
import { describe, isValue, Token, tupleItems, type Builder, type Item } from './tokens.js';
import {
  PickleRecord,
  TorchDevice,
  TorchDType,
  TorchSize,
  type PickleDict,
  type PickleSet,
} from './values.js';

/** What a call of this many items may cost; a short program may name a long list again and again. */
const ITEM_COST = 64;

/** A class whose objects are kept as records: attributes without behaviour. */
class RecordClass extends Token {
  constructor(name: string) {
    super(name, (args, builder) => {
      if (args.length > 0) throw badCall(builder, name, args);
      return new PickleRecord(name);
    });
  }
}

const dictionary = new Token('collections.OrderedDict', (args, builder) =>
  makeDictionary('collections.OrderedDict', args, builder),
);

/** `defaultdict(list, ...)`: the factory plays no part once the dictionary is filled. */
const defaultDictionary = new Token('collections.defaultdict', ([factory, ...rest], builder) => {
  const isType = factory === undefined || factory === null || factory instanceof Token;
  if (!isType) throw badCall(builder, 'collections.defaultdict', [factory, ...rest]);
  return makeDictionary('collections.defaultdict', rest, builder);
});

function makeDictionary(name: string, args: readonly Item[], builder: Builder): PickleDict {
  const map: PickleDict = new Map();
  const [content] = args;
  if (args.length === 0) return map;
  if (args.length > 1 || !(content instanceof Map || Array.isArray(content))) {
    throw badCall(builder, name, args);
  }
  builder.charge((content instanceof Map ? content.size : content.length) * ITEM_COST);
  for (const pair of content) {
    const [key, value, ...more] = Array.isArray(pair) ? pair : (tupleItems(pair) ?? []);
    const isPair = key !== undefined && value !== undefined && more.length === 0;
    if (!isPair || !isValue(key) || !isValue(value)) throw badCall(builder, name, args);
    builder.setItem(map, key, value);
  }
  return map;
}

const makeSet = (name: string): Token =>
  new Token(name, (args, builder) => {
    const set: PickleSet = new Set();
    const [content] = args;
    if (args.length === 0) return set;
    if (args.length > 1 || !Array.isArray(content)) throw badCall(builder, name, args);
    builder.charge(content.length * ITEM_COST);
    for (const item of content) builder.addItem(set, item);
    return set;
  });

/** `_codecs.encode(text, 'latin1')`: how protocol 2 writes bytes. */
const encode = new Token('_codecs.encode', (args, builder) =>
  toBytes('_codecs.encode', args, builder),
);

/** `bytearray(bytes)`, or with text and `latin-1` as in `_codecs.encode`. */
const byteArray = new Token('builtins.bytearray', (args, builder) => {
  const [content] = args;
  if (args.length === 0) return new Uint8Array();
  if (args.length > 1 || !(content instanceof Uint8Array)) {
    return toBytes('builtins.bytearray', args, builder);
  }
  builder.charge(content.length);
  return new Uint8Array(content);
});

function toBytes(name: string, args: readonly Item[], builder: Builder): Uint8Array {
  const [text, encoding] = args;
  const isLatin = args.length === 2 && (encoding === 'latin1' || encoding === 'latin-1');
  if (!isLatin || typeof text !== 'string') throw badCall(builder, name, args);
  builder.charge(text.length);
  if (/[\u0100-\uffff]/.test(text)) throw badCall(builder, name, args);
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

const emptyBytes = new Token('builtins.bytes', (args, builder) => {
  if (args.length > 0) throw badCall(builder, 'builtins.bytes', args);
  return new Uint8Array();
});

const size = new Token('torch.Size', (args, builder) => {
  const [content] = args;
  const sizes = content === undefined || args.length > 1 ? undefined : tupleItems(content);
  builder.charge((sizes?.length ?? 0) * ITEM_COST);
  if (!sizes?.every((item) => typeof item === 'bigint')) throw badCall(builder, 'torch.Size', args);
  return new TorchSize(sizes);
});

const device = new Token('torch.device', (args, builder) => {
  const [type, index] = args;
  const isType = typeof type === 'string' && /^[a-z]{1,20}(:\d{1,4})?$/.test(type);
  const isIndex =
    index === undefined || (typeof index === 'bigint' && index >= 0n && index < 9999n);
  if (args.length > 2 || !isType || !isIndex) throw badCall(builder, 'torch.device', args);
  return new TorchDevice(index === undefined ? type : `${type}:${index}`);
});

/** A `str` with another order: the text is all that matters. */
const torchVersion = new Token('torch.torch_version.TorchVersion', ([text, ...rest], builder) => {
  if (typeof text !== 'string' || rest.length > 0) {
    throw badCall(builder, 'torch.torch_version.TorchVersion', [text, ...rest]);
  }
  return text;
});

const object = new Token('builtins.object');
const text = new Token('builtins.str');

/** `copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make objects. */
const reconstructor = new Token('copyreg._reconstructor', (args, builder) => {
  const [type, base, state, ...more] = args;
  if (more.length === 0 && type instanceof RecordClass && base === object && state === null) {
    return type.call!([], builder);
  }
  if (more.length === 0 && type === torchVersion && base === text) {
    return torchVersion.call!(args.slice(2), builder);
  }
  throw badCall(builder, 'copyreg._reconstructor', args);
});

/** `getattr(HistoryBuffer, 'mean')`: mmengine writes such references beside its curves; a record with that name. */
const getAttribute = new Token('builtins.getattr', (args, builder) => {
  const [type, name, ...more] = args;
  const isName = typeof name === 'string' && /^[A-Za-z_]\w{0,60}$/.test(name);
  if (more.length > 0 || !(type instanceof RecordClass) || !isName) {
    throw badCall(builder, 'builtins.getattr', args);
  }
  return new PickleRecord(`${type.name}.${name}`);
});

function badCall(builder: Builder, name: string, args: readonly (Item | undefined)[]): Error {
  return builder.refuse(
    'E_PICKLE_CALL',
    `it calls ${name} with (${args.slice(0, 4).map(describe).join(', ')}).`,
  );
}

type Named = Token | TorchDType;

function table(): Map<string, Named> {
  const all = new Map<string, Named>();
  const add = (modules: readonly string[], names: Readonly<Record<string, Named>>): void => {
    for (const module of modules) {
      for (const [name, token] of Object.entries(names)) all.set(`${module} ${name}`, token);
    }
  };
  add(['torch._utils'], {
    _rebuild_tensor: rebuildTensor,
    _rebuild_tensor_v2: rebuildTensorV2,
    _rebuild_tensor_v3: rebuildTensorV3,
    _rebuild_parameter: rebuildParameter,
    _rebuild_parameter_with_state: rebuildParameterWithState,
  });
  add(['torch._tensor'], { _rebuild_from_type_v2: rebuildFromType });
  add(['torch', 'torch._tensor'], { Tensor: tensorClass });
  add(['torch.nn', 'torch.nn.parameter'], { Parameter: parameterClass });
  add(['torch'], { Size: size, device });
  add(['torch'], Object.fromEntries(TORCH_DTYPES.map((name) => [name, new TorchDType(name)])));
  for (const [name, dtype] of STORAGE_CLASSES) {
    add(['torch', 'torch.cuda'], { [name]: new StorageClass(`torch.${name}`, dtype) });
  }
  const untyped = new StorageClass('torch.storage.UntypedStorage', 'untyped');
  add(['torch', 'torch.storage'], { UntypedStorage: untyped });
  add(['torch.torch_version'], { TorchVersion: torchVersion });
  add(['collections'], {
    OrderedDict: dictionary,
    defaultdict: defaultDictionary,
    Counter: new Token('collections.Counter', (args, builder) =>
      makeDictionary('collections.Counter', args, builder),
    ),
  });
  add(['_codecs'], { encode });
  add(['builtins', '__builtin__'], {
    set: makeSet('builtins.set'),
    frozenset: makeSet('builtins.frozenset'),
    bytearray: byteArray,
    bytes: emptyBytes,
    getattr: getAttribute,
    object,
    str: text,
    unicode: text,
    // Only ever the factory of a defaultdict.
    list: new Token('builtins.list'),
    dict: new Token('builtins.dict'),
    int: new Token('builtins.int'),
    float: new Token('builtins.float'),
  });
  add(['copyreg', 'copy_reg'], { _reconstructor: reconstructor });
  add(['argparse'], { Namespace: new RecordClass('argparse.Namespace') });
  // The loss curves that mmengine, and so XTuner, puts beside the weights.
  add(['mmengine.logging.history_buffer'], {
    HistoryBuffer: new RecordClass('mmengine.logging.history_buffer.HistoryBuffer'),
  });
  add(['numpy'], { dtype: numpyDType, ndarray: numpyClass });
  add(['numpy.core.multiarray', 'numpy._core.multiarray'], {
    scalar: numpyScalar,
    _reconstruct: numpyReconstruct,
  });
  add(['numpy.core.numeric', 'numpy._core.numeric'], { _frombuffer: numpyFromBuffer });
  return all;
}

/** What a pickle may name, by `module name`. */
export const GLOBALS: ReadonlyMap<string, Named> = table();
