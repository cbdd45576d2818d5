/**
 * Tensors from files to a device, each placed once. Files are memory-mapped a window at a time, so that what is resident
 * stays small; for a GPU the bytes pass through two page-locked buffers, one being filled while the other is on its way. So
 * host memory holds a window and two buffers, and on the CPU the tensors alone.
 */
import { denseStrides, dtypeBytes, elementCount, type StoredTensor } from '../../formats/stored.js';
import {
  DeviceEvent,
  type Device,
  type DType,
  empty,
  fromTypedArray,
  MappedFile,
  type MappedTensorOptions,
  noGrad,
  scope,
  type Tensor,
} from '../../torch/index.js';
import { torchDType } from './stored-dtype.js';

/** Bytes copied at a time; page-locked buffers have this size. */
const PIECE = 32 * 2 ** 20;
/** Bytes of a file that are read before its map is made anew, which gives the pages back. */
const WINDOW = 512 * 2 ** 20;
const PINNED_BUFFERS = 2;

/** A tensor that is to be placed. */
export interface Placement {
  readonly stored: StoredTensor;
  readonly dtype: DType;
}

export interface PlaceOptions {
  signal?: AbortSignal | undefined;
  /** Bytes copied at a time. @default 32 MiB */
  pieceBytes?: number;
}

/**
 * Reads tensors in the order given and hands each to `placed` as soon as it is whole. The tensors belong to nobody's scope.
 *
 * @throws DataError `E_STORED_DTYPE` for an element type that libtorch lacks, `E_EXTENT` or `E_FILE_CHANGED` for a file that is
 *   not what its header was read from
 */
export async function placeTensors(
  placements: readonly Placement[],
  device: Device,
  placed: (tensor: Tensor, index: number) => void,
  { signal, pieceBytes = PIECE }: PlaceOptions = {},
): Promise<void> {
  const files = new MappedFiles();
  const transfer = device.startsWith('cuda') ? new PinnedTransfer(device) : directTransfer;
  try {
    for (const [index, { stored, dtype }] of placements.entries()) {
      const target = empty(stored.shape, { dtype, device }).keep();
      try {
        for (const { into, source } of pieces(target, stored, files, pieceBytes)) {
          signal?.throwIfAborted();
          noGrad(() => scope(() => transfer.copy(into(), source())));
          await otherWork();
        }
      } catch (error) {
        target.dispose();
        throw error;
      }
      placed(target, index);
    }
  } finally {
    transfer.close();
    files.close();
  }
}

/** A stretch of a tensor: where it goes, and its elements in the type in which they are stored. */
interface Piece {
  readonly into: () => Tensor;
  readonly source: () => Tensor;
}

function* pieces(
  target: Tensor,
  stored: StoredTensor,
  files: MappedFiles,
  pieceBytes: number,
): Generator<Piece> {
  const { shape, strides, data, offset, bytes } = stored;
  const dtype = torchDType(stored);
  const size = dtypeBytes(stored.dtype);
  const total = elementCount(shape);
  if (total === 0) return;
  if (data !== undefined) {
    // A copy is aligned for its type, which bytes within others need not be.
    const own = data.slice(offset, offset + bytes);
    const flat = (): Tensor => fromTypedArray(own, [bytes / size], dtype);
    const source = (): Tensor => flat().asStrided(shape, strides ?? denseStrides(shape));
    yield { into: () => target, source };
  } else if (strides !== undefined) {
    const source = (): Tensor => files.tensor(stored, { dtype, shape, strides, offset });
    yield { into: () => target, source };
  } else {
    const most = Math.max(1, Math.floor(pieceBytes / size));
    for (let start = 0; start < total; start += most) {
      const count = Math.min(most, total - start);
      yield {
        into: () => target.view([-1]).narrow(0, start, count),
        source: () =>
          files.tensor(stored, { dtype, shape: [count], offset: offset + start * size }),
      };
    }
  }
}

/** Lets timers, signals and input have their turn. */
function otherWork(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The file that is being read, mapped anew after each window. */
class MappedFiles {
  private map: MappedFile | undefined;
  private used = 0;

  /** A tensor on the file's own bytes. */
  tensor({ file, bytes }: StoredTensor, options: MappedTensorOptions): Tensor {
    if (this.map?.path !== file || this.used > WINDOW) {
      this.close();
      this.map = new MappedFile(file);
    }
    const tensor = this.map.tensor(options);
    this.used += options.strides === undefined ? tensor.bytes : bytes;
    return tensor;
  }

  close(): void {
    this.map?.dispose();
    this.map = undefined;
    this.used = 0;
  }
}

/** How elements get from where they are read to where they belong. */
interface Transfer {
  copy(target: Tensor, source: Tensor): void;
  close(): void;
}

const directTransfer: Transfer = {
  copy: (target, source) => void target.copy_(source),
  close: () => undefined,
};

/** A page-locked buffer, and the mark that the device sets when it has read it. */
interface Slot {
  readonly buffer: Tensor;
  readonly read: DeviceEvent;
}

/** Copies through page-locked buffers in turn; one is used again when the device has read it. */
class PinnedTransfer implements Transfer {
  private readonly slots: Slot[] = [];
  private turn = 0;

  constructor(private readonly device: Device) {}

  copy(target: Tensor, source: Tensor): void {
    const { buffer, read } = this.slot(source.bytes);
    const staged = buffer.narrow(0, 0, source.bytes).viewAs(source.dtype).view(source.shape);
    staged.copy_(source);
    if (source.dtype === target.dtype) {
      target.copy_(staged, true);
    } else {
      // The device converts: a copy that moves and converts would convert on the host.
      target.copy_(staged.to({ device: this.device }, { nonBlocking: true }));
    }
    read.record();
  }

  close(): void {
    this.slots.forEach(free);
  }

  private slot(bytes: number): Slot {
    const place = this.turn++ % PINNED_BUFFERS;
    const slot = this.slots[place];
    if (slot !== undefined && slot.buffer.numel >= bytes) {
      slot.read.synchronize();
      return slot;
    }
    if (slot !== undefined) free(slot);
    const size = [Math.max(bytes, PIECE)];
    return (this.slots[place] = {
      buffer: empty(size, { dtype: 'uint8', pinMemory: true }).keep(),
      read: new DeviceEvent(this.device),
    });
  }
}

function free({ buffer, read }: Slot): void {
  read.synchronize();
  read.dispose();
  buffer.dispose();
}
