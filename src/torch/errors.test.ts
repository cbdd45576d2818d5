/** Every way in which tensor code fails, with the class, code and hint that it fails with. (Faults of the set-up: setup/.) */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { PatinaError } from '../base/errors.js';
import { call, declare } from './door.js';
import { failureError } from './errors.js';
import {
  cat,
  checkOperators,
  cudaAvailable,
  empty,
  fromTypedArray,
  full,
  RandomGenerator,
  grad,
  linear,
  liveTensors,
  MappedFile,
  nativeLayerNorm,
  noGrad,
  ones,
  scope,
  setMemoryLimit,
  tensor,
  zeros,
  type Tensor,
} from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'patina-errors-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What an untyped caller may pass. */
const wrong = (value: unknown): never => value as never;

const disposed = (): Tensor => {
  const x = ones([2]);
  x.dispose();
  return x;
};

interface Fault {
  readonly name: string;
  readonly run: () => unknown;
  readonly type: string;
  readonly code: string;
  readonly message: RegExp;
}

const FAULTS: readonly Fault[] = [
  {
    name: 'an operator that libtorch does not have',
    run: () => call(declare('ad.Tensor', ['self:Tensor'])),
    type: 'EnvironmentError',
    code: 'E_SCHEMA',
    message: /ad\.Tensor\(\): libtorch has no operator 'aten::ad\.Tensor'/,
  },
  {
    name: 'an operator of our own that does not exist',
    run: () => call(declare('patina::overwrit_.Tensor', ['self:Tensor'])),
    type: 'EnvironmentError',
    code: 'E_SCHEMA',
    message: /libtorch has no operator 'patina::overwrit_\.Tensor'/,
  },
  {
    name: 'null where an operator of our own takes a tensor',
    run: () => ones([2]).overwrite(wrong(null)),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /patina::overwrite_\(\): argument 'source': expected a Tensor/,
  },
  {
    name: 'shapes that an operator of our own refuses',
    run: () => ones([2]).overwrite(ones([3])),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /patina::overwrite_\(\): .*must match the size/,
  },
  {
    name: 'an argument that libtorch’s operator does not have',
    run: () => call(declare('neg', ['self:Tensor', 'times:int'])),
    type: 'EnvironmentError',
    code: 'E_SCHEMA',
    message: /has no argument 'times:int'/,
  },
  {
    name: 'an argument of another type than in libtorch',
    run: () => call(declare('unsqueeze', ['self:Tensor', 'dim:float'])),
    type: 'EnvironmentError',
    code: 'E_SCHEMA',
    message: /asks for 'dim:int'/,
  },
  {
    name: 'a number where a tensor belongs',
    run: () => ones([2]).matmul(wrong(3)),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /matmul\(\): argument 'other': expected a Tensor/,
  },
  {
    name: 'null where a tensor belongs',
    run: () => ones([2]).add(wrong(null)),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /argument 'other': expected a Tensor/,
  },
  {
    name: 'null in a list of tensors',
    run: () => cat([ones([2]), wrong(null)]),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /argument 'tensors': expected a Tensor/,
  },
  {
    name: 'a generator where a tensor belongs',
    run: () => {
      using generator = RandomGenerator.create(1);
      return ones([2]).matmul(wrong(generator));
    },
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a Tensor/,
  },
  {
    name: 'a string where a number belongs',
    run: () => ones([2]).add(wrong('2')),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a number, bigint or boolean, got string/,
  },
  {
    name: 'a string where an integer belongs',
    run: () => ones([2]).unsqueeze(wrong('0')),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a number, got string/,
  },
  {
    name: 'a fraction where an integer belongs',
    run: () => ones([2]).unsqueeze(0.5),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /unsqueeze\(\): argument 'dim': expected an integer/,
  },
  {
    name: 'a fraction where an optional integer belongs',
    run: () => ones([2]).slice(0, 0.5),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected an integer, got 0\.5/,
  },
  {
    name: 'a missing number',
    run: () => nativeLayerNorm(ones([2]), [2], null, null, wrong(undefined)),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a number, got undefined/,
  },
  {
    name: 'a number where a boolean belongs',
    run: () => ones([2]).argmax(0, wrong(1)),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a boolean, got 1/,
  },
  {
    name: 'a number where a shape belongs',
    run: () => ones(wrong(3)),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a list of numbers, got 3/,
  },
  {
    name: 'a fraction in a shape',
    run: () => ones([1.5]),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /argument 'size': expected an integer/,
  },
  {
    name: 'an unknown dtype',
    run: () => ones([2], { dtype: wrong('float') }),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a dtype/,
  },
  {
    name: 'an unknown memory format',
    run: () => ones([2]).contiguous({ memoryFormat: wrong('rows') }),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /expected a memory format/,
  },
  {
    name: 'a bigint beyond 64 bits',
    run: () => full([1], 2n ** 63n),
    type: 'UsageError',
    code: 'E_ARGUMENT',
    message: /9223372036854775808 does not fit in 64 bits/,
  },
  {
    name: 'shapes that cannot be multiplied',
    run: () => ones([2, 3]).matmul(ones([4, 5])),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /matmul\(\): .*2x3 and 4x5/,
  },
  {
    name: 'shapes that cannot be broadcast',
    run: () => ones([2, 3]).add(ones([2])),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /size of tensor a \(3\) must match the size of tensor b \(2\)/,
  },
  {
    name: 'a view of another size',
    run: () => ones([2, 3]).view([5]),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /shape '\[5\]' is invalid for input of size 6/,
  },
  {
    name: 'a layer of another width',
    run: () => linear(ones([2, 3]), ones([4, 5])),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /linear\(\)/,
  },
  {
    name: 'tensors that do not fit together',
    run: () => cat([ones([2, 3]), ones([2, 4])]),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /Sizes of tensors must match/,
  },
  {
    name: 'a dimension that is not there',
    run: () => ones([2]).select(3, 0),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /Dimension out of range/,
  },
  {
    name: 'an index out of range',
    run: () => ones([2, 3]).indexSelect(0, tensor([5], { dtype: 'int64' })),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /out of range/,
  },
  {
    name: 'a shape beyond 64 bits',
    run: () => empty([2 ** 40, 2 ** 40]),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /overflow/,
  },
  {
    name: 'matrices of different dtypes',
    run: () => ones([2, 2]).matmul(ones([2, 2], { dtype: 'float64' })),
    type: 'OperatorError',
    code: 'E_DTYPE',
    message: /same dtype/,
  },
  {
    name: 'a result that does not fit the dtype in place',
    run: () => ones([2], { dtype: 'int32' }).add_(1.5),
    type: 'OperatorError',
    code: 'E_DTYPE',
    message: /can't be cast/,
  },
  {
    name: 'a gradient for integers',
    run: () => ones([2], { dtype: 'int64' }).requiresGrad_(),
    type: 'OperatorError',
    code: 'E_DTYPE',
    message: /[Oo]nly Tensors of floating point/,
  },
  {
    name: 'a dtype that an operator lacks',
    run: () => ones([2], { dtype: 'float8_e4m3fn' }).sqrt(),
    type: 'OperatorError',
    code: 'E_UNSUPPORTED',
    message: /not implemented for/,
  },
  {
    name: 'tensors on two devices',
    run: () => ones([2]).add_(ones([2], { device: 'meta' })),
    type: 'OperatorError',
    code: 'E_DEVICE_MISMATCH',
    message: /meta|device/,
  },
  {
    name: 'reading a meta tensor',
    run: () => ones([2], { device: 'meta' }).toArray(),
    type: 'OperatorError',
    code: 'E_META',
    message: /a meta tensor has no data/,
  },
  {
    name: 'the element of a meta tensor',
    run: () => ones([], { device: 'meta' }).item(),
    type: 'OperatorError',
    code: 'E_META',
    message: /a meta tensor has no data/,
  },
  {
    name: 'a meta tensor moved to a device',
    run: () => ones([2], { device: 'meta' }).to('cpu'),
    type: 'OperatorError',
    code: 'E_META',
    message: /meta/,
  },
  {
    name: 'the element of a tensor with several',
    run: () => ones([2]).item(),
    type: 'OperatorError',
    code: 'E_SHAPE',
    message: /one element, this one has 2/,
  },
  {
    name: 'use after dispose',
    run: () => disposed().add(1),
    type: 'DisposedError',
    code: 'E_DISPOSED',
    message: /add\.Scalar\(\): argument 'self': the tensor was disposed/,
  },
  {
    name: 'use after dispose in a list',
    run: () => cat([disposed()]),
    type: 'DisposedError',
    code: 'E_DISPOSED',
    message: /argument 'tensors': the tensor was disposed/,
  },
  {
    name: 'use after dispose as an optional argument',
    run: () => linear(ones([1, 2]), ones([3, 2]), disposed()),
    type: 'DisposedError',
    code: 'E_DISPOSED',
    message: /argument 'bias'/,
  },
  {
    name: 'use after its scope ended',
    run: () => {
      let inner: Tensor | undefined;
      scope(() => void (inner = ones([2])));
      return inner!.shape;
    },
    type: 'DisposedError',
    code: 'E_DISPOSED',
    message: /the tensor was disposed/,
  },
  {
    name: 'a gradient of a disposed tensor',
    run: () => grad([disposed()], [ones([1])]),
    type: 'DisposedError',
    code: 'E_DISPOSED',
    message: /grad\(\)/,
  },
  {
    name: 'disposing twice',
    run: () => disposed().dispose(),
    type: 'DisposedError',
    code: 'E_DISPOSED',
    message: /dispose\(\): the tensor was disposed already/,
  },
  {
    name: 'more memory than the limit allows',
    run: () => {
      setMemoryLimit('cpu', 1_000_000);
      try {
        return zeros([1_000_000]);
      } finally {
        setMemoryLimit('cpu', null);
      }
    },
    type: 'OutOfMemoryError',
    code: 'E_OUT_OF_MEMORY',
    message: /tried to allocate 4000000 bytes .* the limit is 1000000 bytes/,
  },
  {
    name: 'a graph that was freed',
    run: () => {
      const x = ones([]).requiresGrad_();
      const y = x.mul(x);
      grad([y], [x]);
      return grad([y], [x]);
    },
    type: 'OperatorError',
    code: 'E_GRAPH',
    message: /backward through the graph a second time/,
  },
  {
    name: 'a saved tensor that was written in place',
    run: () => {
      const [x, w] = [ones([2]).requiresGrad_(), ones([2])];
      const y = x.mul(w).sum(null);
      w.add_(1);
      return grad([y], [x]);
    },
    type: 'OperatorError',
    code: 'E_GRAPH',
    message: /modified by an inplace operation/,
  },
  {
    name: 'a gradient without a graph',
    run: () => grad([ones([])], [ones([])]),
    type: 'OperatorError',
    code: 'E_GRAPH',
    message: /does not require grad/,
  },
  {
    name: 'writing to a leaf in place',
    run: () => ones([2]).requiresGrad_().add_(1),
    type: 'OperatorError',
    code: 'E_GRAPH',
    message: /leaf Variable/,
  },
  {
    name: 'an asynchronous function under no-grad',
    run: () => noGrad(async () => Promise.resolve()),
    type: 'UsageError',
    code: 'E_SCOPE_ASYNC',
    message: /noGrad\(\) returned a promise/,
  },
  {
    name: 'an asynchronous function in a synchronous scope',
    run: () => scope(async () => Promise.resolve()),
    type: 'UsageError',
    code: 'E_SCOPE_ASYNC',
    message: /scope\(\) returned a promise/,
  },
  {
    name: 'a device that is not there',
    run: () => ones([2], { device: 'cuda:63' }),
    type: 'EnvironmentError',
    code: 'E_DEVICE',
    message: cudaAvailable() ? /does not exist/ : /no usable CUDA device: 'cuda:63'/,
  },
  {
    name: 'a tensor sent to another thread',
    run: () => structuredClone(ones([2])),
    type: 'ThreadError',
    code: 'E_THREAD',
    message: /cannot be cloned or sent to another thread/,
  },
  {
    name: 'a file that is not there',
    run: () => new MappedFile(join(folder, 'none')),
    type: 'DataError',
    code: 'E_FILE',
    message: /cannot open '.*none': No such file/,
  },
  {
    name: 'a tensor beyond the end of its file',
    run: () => {
      const path = join(folder, 'short');
      writeFileSync(path, Buffer.alloc(6));
      using file = new MappedFile(path);
      return file.tensor({ dtype: 'float32', shape: [2], offset: 0 });
    },
    type: 'DataError',
    code: 'E_EXTENT',
    message: /has 6 bytes, the tensor needs 2 elements of 4 bytes from byte 0/,
  },
  {
    name: 'a file that changed while it was mapped',
    run: () => {
      const path = join(folder, 'changing');
      writeFileSync(path, Buffer.alloc(8));
      using file = new MappedFile(path);
      writeFileSync(path, Buffer.alloc(16));
      return file.tensor({ dtype: 'float32', shape: [2], offset: 0 });
    },
    type: 'DataError',
    code: 'E_FILE_CHANGED',
    message: /'.*changing' changed while it was mapped/,
  },
  {
    name: 'storage that is not libtorch’s',
    run: () => fromTypedArray(new Float32Array(2)).resizeStorage(0),
    type: 'OperatorError',
    code: 'E_STORAGE',
    message: /belongs to a buffer or a mapped file/,
  },
];

describe('faults', () => {
  test.each(FAULTS)('$name: $code', ({ run, type, code, message }) => {
    const before = liveTensors();
    let error: unknown;
    try {
      scope(() => {
        run();
      });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(PatinaError);
    expect(error).toMatchObject({ name: type, code });
    expect((error as PatinaError).message).toMatch(message);
    expect((error as PatinaError).hint).toMatch(/^[A-Z].*\.$/);
    expect((error as PatinaError).stack).toContain('errors.test.ts');
    expect(liveTensors()).toBe(before);
  });

  test('the libtorch in use has every declared operator but the ones declared wrongly above', () => {
    expect(checkOperators().map(({ operator }) => operator)).toEqual([
      'ad.Tensor',
      'patina::overwrit_.Tensor',
      'neg',
      'unsqueeze',
    ]);
  });

  test('the door still works after all of them', () => {
    expect(scope(() => ones([2]).add(1).toArray())).toEqual([2, 2]);
  });
});

describe('a full GPU, as libtorch tells it', () => {
  const full = (allocated: string): PatinaError =>
    failureError(
      {
        kind: 'memory',
        message: `CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which 300.00 MiB is free. Of the allocated memory ${allocated} is allocated by PyTorch, and 96.50 MiB is reserved by PyTorch but unallocated.`,
        argument: -1,
      },
      { operator: 'empty()' },
    );

  test('names other processes where they hold the memory, and the batch where they do not', () => {
    expect(full('12.00 GiB')).toMatchObject({
      code: 'E_OUT_OF_MEMORY',
      hint: expect.stringContaining('Other processes') as string,
    });
    expect(full('138.50 GiB').hint).toContain('smaller batches');
    const message = 'CUDA error: out of memory';
    const context = failureError({ kind: 'operator', message, argument: -1 }, { operator: 'a' });
    expect(context).toMatchObject({ code: 'E_OUT_OF_MEMORY', name: 'OutOfMemoryError' });
    expect(context.hint).toContain('Other processes');
  });

  test('is not one that another process has for itself', () => {
    const message = 'CUDA error: CUDA-capable device(s) is/are busy or unavailable';
    const error = failureError(
      { kind: 'operator', message, argument: -1 },
      { operator: 'empty()' },
    );
    expect(error).toMatchObject({ name: 'EnvironmentError', code: 'E_DEVICE_BUSY' });
  });
});
