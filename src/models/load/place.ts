/**
 * Tensors from files to a device, each placed once. Some pieces of the files are read at a time, on other threads: on the CPU
 * straight into the tensor, else into buffers (page-locked ones for a GPU) from which the device takes them while the next are
 * read. So host memory holds those buffers, and on the CPU the tensors.
 */
import {
  denseStrides,
  dtypeBytes as storedBytes,
  elementCount,
  type StoredTensor,
} from '../../formats/stored.js';
import {
  DeviceEvent,
  type Device,
  type DType,
  dtypeBytes,
  empty,
  fromTypedArray,
  MappedFile,
  noGrad,
  scope,
  type Tensor,
} from '../../torch/index.js';
import { torchDType } from './stored-dtype.js';

/** Bytes read at a time. */
const PIECE = 16 * 2 ** 20;
/** Pieces on their way at a time: as many as Node reads at once, and as many that the device takes meanwhile. */
const PIECES = 8;

/** A tensor that is to be made of a stored one. */
export interface Placement {
  readonly stored: StoredTensor;
  readonly dtype: DType;
  /** Whether it goes as soon as it was there. @default false */
  readonly passes?: boolean;
}

/** A dense tensor that is there, and is to be filled with neighbouring elements of a stored one. */
export interface Refill {
  readonly stored: StoredTensor;
  /** First element of what is stored, flattened. */
  readonly from: number;
  readonly into: Tensor;
  /** Type to which values are rounded on their way. @default that of `into` */
  readonly dtype?: DType | undefined;
}

export interface PlaceOptions {
  signal?: AbortSignal | undefined;
  /** Bytes read at a time. @default 16 MiB */
  pieceBytes?: number;
}

/**
 * Reads tensors in the order given and hands each to `placed` as soon as it is whole. Those that are made belong to nobody's scope.
 *
 * @throws DataError `E_STORED_DTYPE` for an element type that libtorch lacks, `E_EXTENT`, `E_FILE` or `E_FILE_CHANGED` for a file
 *   that is not what its header was read from; OutOfMemoryError on a GPU before anything is read
 */
export async function placeTensors(
  placements: readonly (Placement | Refill)[],
  device: Device,
  placed: (tensor: Tensor, index: number) => void,
  { signal, pieceBytes = PIECE }: PlaceOptions = {},
): Promise<void> {
  const quantised = placements.find(({ stored }) => stored.form !== undefined);
  if (quantised) throw new Error(`${quantised.stored.name} is read by quantised-tensor.ts`);
  if (device.startsWith('cuda')) reserve(placements, device);
  const files = new OpenFiles();
  const queue = new ReadQueue(device);
  const unfinished = new Set<Tensor>();
  try {
    for (const [index, placement] of placements.entries()) {
      const { stored } = placement;
      const { from, into, shape, dtype } = goalOf(placement);
      const isThere = into?.dtype === dtype;
      const target = isThere ? into : empty(shape, { dtype, device }).keep();
      if (!isThere) unfinished.add(target);
      const dense = stored.data === undefined && stored.strides === undefined;
      if (dense) {
        const source = { ...stored, offset: stored.offset + from * storedBytes(stored.dtype) };
        for (const { start, count } of pieces(stored, target.numel, pieceBytes)) {
          signal?.throwIfAborted();
          await queue.read(files.open(stored.file), source, target, start, count);
        }
      } else {
        noGrad(() =>
          scope(() => {
            const elements = view(stored, files).reshape([-1]).narrow(0, from, target.numel);
            target.view([-1]).copy_(elements);
          }),
        );
      }
      await queue.whenRead(() => {
        if (into !== undefined && !isThere) {
          into.copy_(target);
          target.dispose();
        }
        unfinished.delete(target);
        placed(into ?? target, index);
      });
    }
    await queue.drain();
  } finally {
    await queue.close();
    files.close();
    for (const tensor of unfinished) tensor.dispose();
  }
}

/** One allocation, given back to the allocator at once, which serves all tensors from it: hundreds of them take a second. */
function reserve(placements: readonly (Placement | Refill)[], device: Device): void {
  const bytes = placements.reduce((sum, placement) => {
    if ('into' in placement || placement.passes === true) return sum;
    const { stored, dtype } = placement;
    return sum + Math.ceil((elementCount(stored.shape) * dtypeBytes(dtype)) / 512) * 512;
  }, 0);
  if (bytes > 0) empty([bytes], { dtype: 'uint8', device }).dispose();
}

/** What is to be filled, and in which type. */
function goalOf(placement: Placement | Refill) {
  if (!('into' in placement)) {
    const { stored, dtype } = placement;
    return { from: 0, into: undefined, shape: stored.shape, dtype };
  }
  const { from, into } = placement;
  return { from, into, shape: into.shape, dtype: placement.dtype ?? into.dtype };
}

/** So that a file is read from its beginning to its end. */
export function inFileOrder(a: StoredTensor, b: StoredTensor): number {
  return a.file === b.file ? a.offset - b.offset : a.file < b.file ? -1 : 1;
}

/** The stretches of so many elements. */
function* pieces(
  { dtype }: StoredTensor,
  total: number,
  pieceBytes: number,
): Generator<{ start: number; count: number }> {
  const most = Math.max(1, Math.floor(pieceBytes / storedBytes(dtype)));
  for (let start = 0; start < total; start += most) {
    yield { start, count: Math.min(most, total - start) };
  }
}

/** A tensor that is no stretch of a file: one in memory, or a view by strides on a map of the file. */
function view(stored: StoredTensor, files: OpenFiles): Tensor {
  const { shape, data, offset, bytes, strides = denseStrides(shape) } = stored;
  const dtype = torchDType(stored);
  if (data === undefined) return files.open(stored.file).tensor({ dtype, shape, strides, offset });
  // A copy is aligned for its type, which bytes within others need not be.
  const own = data.slice(offset, offset + bytes);
  return fromTypedArray(own, [bytes / storedBytes(stored.dtype)], dtype).asStrided(shape, strides);
}

/** The file that is being read; reads that are under way outlive it. */
class OpenFiles {
  private file: MappedFile | undefined;

  open(path: string): MappedFile {
    if (this.file?.path !== path) {
      this.close();
      this.file = new MappedFile(path);
    }
    return this.file;
  }

  close(): void {
    this.file?.dispose();
    this.file = undefined;
  }
}

/** A buffer on the host, and the mark that the device sets when it has taken what it holds. */
interface Buffer {
  bytes: Tensor;
  readonly taken: DeviceEvent;
}

/** Reads under way, and what is to be done when each has come, in their order. */
class ReadQueue {
  private readonly waiting: { readonly reading: Promise<void>; readonly act: () => void }[] = [];
  private readonly buffers: Buffer[] = [];
  private turn = 0;

  constructor(private readonly device: Device) {}

  /** Starts reading elements `start` to `start + count` of a tensor; waits while too much is under way. */
  async read(
    file: MappedFile,
    stored: StoredTensor,
    target: Tensor,
    start: number,
    count: number,
  ): Promise<void> {
    while (this.waiting.length >= PIECES) await this.first();
    const dtype = torchDType(stored);
    const size = storedBytes(stored.dtype);
    const from = stored.offset + start * size;
    const part = (): Tensor => target.view([-1]).narrow(0, start, count);
    if (this.device === 'cpu' && dtype === target.dtype) {
      this.add(readInto(file, from, part));
      return;
    }
    const { bytes, taken } = this.buffer(count * size);
    const staged = (): Tensor => bytes.narrow(0, 0, count * size);
    this.add(readInto(file, from, staged), () => {
      // The device converts: a copy that moves and converts would convert on the host.
      const values = staged().viewAs(dtype).to({ device: this.device }, { nonBlocking: true });
      part().copy_(values);
      taken.record();
    });
  }

  /** Does something when all that is under way has come; waits while too much is. */
  async whenRead(act: () => void): Promise<void> {
    while (this.waiting.length >= PIECES) await this.first();
    this.add(Promise.resolve(), act);
  }

  async drain(): Promise<void> {
    while (this.waiting.length > 0) await this.first();
  }

  /** Waits for what is under way, whatever becomes of it, and frees the buffers. */
  async close(): Promise<void> {
    await Promise.allSettled(this.waiting.map(({ reading }) => reading));
    for (const { bytes, taken } of this.buffers) {
      taken.synchronize();
      taken.dispose();
      bytes.dispose();
    }
  }

  private add(reading: Promise<void>, act: () => void = () => undefined): void {
    reading.catch(() => undefined); // is seen when its turn comes
    this.waiting.push({ reading, act });
  }

  private async first(): Promise<void> {
    const { reading, act } = this.waiting.shift()!;
    await reading;
    noGrad(() => scope(act));
  }

  /** The next buffer in turn, once the device has taken what it held. */
  private buffer(size: number): Buffer {
    const place = this.turn++ % PIECES;
    const buffer = (this.buffers[place] ??= {
      bytes: this.allocate(Math.max(size, PIECE)),
      taken: new DeviceEvent(this.device),
    });
    buffer.taken.synchronize();
    if (buffer.bytes.numel < size) {
      buffer.bytes.dispose();
      buffer.bytes = this.allocate(size);
    }
    return buffer;
  }

  private allocate(bytes: number): Tensor {
    const pinMemory = this.device.startsWith('cuda');
    return empty([bytes], { dtype: 'uint8', pinMemory }).keep();
  }
}

/** The read keeps the memory of what it reads into. */
function readInto(file: MappedFile, offset: number, target: () => Tensor): Promise<void> {
  using into = noGrad(() => scope(() => target().keep()));
  return file.read(into, offset);
}
