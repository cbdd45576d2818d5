/**
 * Tensors from files to a device, each placed once. A file is read in pieces by several threads at a time into a ring of
 * buffers; for a GPU the pieces pass through page-locked memory, so that one is on its way while the next is read. So host
 * memory holds the ring and nothing else, and on the CPU the tensors alone.
 */
import { openSource, type ByteSource } from '../../formats/source.js';
import { dtypeBytes, type StoredTensor } from '../../formats/stored.js';
import {
  DeviceEvent,
  type Device,
  type DType,
  empty,
  fromTypedArray,
  noGrad,
  scope,
  type Tensor,
} from '../../torch/index.js';
import { torchDType } from './stored-dtype.js';

/** Bytes of one buffer of the ring. */
const PIECE = 32 * 2 ** 20;
/** Buffers of the ring: as many pieces are being read at a time. */
const RING = 6;
/** Page-locked buffers: one is filled while the others are on their way. */
const PINNED = 2;

/** A tensor that is to be placed. */
export interface Placement {
  readonly stored: StoredTensor;
  readonly dtype: DType;
}

export interface PlaceOptions {
  signal?: AbortSignal | undefined;
  /** Bytes read at a time. @default 32 MiB */
  pieceBytes?: number;
}

/** A stretch of the elements of one placement: all of them where they do not lie densely in the file. */
interface Piece {
  readonly index: number;
  readonly start: number;
  readonly count: number;
}

/**
 * Reads tensors in the order given and hands each to `placed` as soon as it is whole. The tensors belong to nobody's scope.
 *
 * @throws DataError `E_STORED_DTYPE` for an element type that libtorch lacks
 */
export async function placeTensors(
  placements: readonly Placement[],
  device: Device,
  placed: (tensor: Tensor, index: number) => void,
  { signal, pieceBytes = PIECE }: PlaceOptions = {},
): Promise<void> {
  const files = new Files(pieceBytes);
  const transfer = device.startsWith('cuda') ? new PinnedTransfer(device) : directTransfer;
  const reading: Promise<Uint8Array>[] = [];
  let target: Tensor | undefined;
  try {
    const pieces = placements.flatMap(({ stored }, index) => cut(stored, index, pieceBytes));
    const read = (piece: Piece | undefined): void => {
      if (piece === undefined) return;
      const bytes = files.read(placements[piece.index]!.stored, piece);
      bytes.catch(() => undefined); // awaited below, unless an earlier one fails
      reading.push(bytes);
    };
    pieces.slice(0, RING).forEach(read);
    for (const [i, piece] of pieces.entries()) {
      const bytes = await reading.shift()!;
      signal?.throwIfAborted();
      read(pieces[i + RING]);
      const { stored, dtype } = placements[piece.index]!;
      target ??= empty(stored.shape, { dtype, device }).keep();
      fill(target, stored, piece, bytes, transfer);
      files.reuse(bytes);
      if (pieces[i + 1]?.index !== piece.index) {
        const whole = target;
        target = undefined;
        placed(whole, piece.index);
      }
    }
  } finally {
    target?.dispose();
    await Promise.allSettled(reading);
    transfer.close();
    await files.close();
  }
}

function cut(stored: StoredTensor, index: number, pieceBytes: number): Piece[] {
  const size = dtypeBytes(stored.dtype);
  const total = stored.bytes / size;
  const most = Math.max(1, Math.floor(pieceBytes / size));
  if (stored.strides !== undefined || total <= most) return [{ index, start: 0, count: total }];
  return Array.from({ length: Math.ceil(total / most) }, (_, i) => ({
    index,
    start: i * most,
    count: Math.min(most, total - i * most),
  }));
}

function fill(
  target: Tensor,
  stored: StoredTensor,
  { start, count }: Piece,
  bytes: Uint8Array,
  transfer: Transfer,
): void {
  const dtype = torchDType(stored);
  if (count === 0) return;
  noGrad(() =>
    scope(() => {
      const flat = fromTypedArray(bytes, [count], dtype);
      if (stored.strides === undefined) {
        transfer.copy(target.view([-1]).narrow(0, start, count), flat);
      } else {
        transfer.copy(target, flat.asStrided(stored.shape, stored.strides).contiguous());
      }
    }),
  );
}

/** How elements get from the bytes that were read to where they belong. */
interface Transfer {
  copy(target: Tensor, source: Tensor): void;
  close(): void;
}

const directTransfer: Transfer = {
  copy: (target, source) => void target.copy_(source),
  close: () => undefined,
};

/** Copies through page-locked buffers; each is used again when the device has read it. */
class PinnedTransfer implements Transfer {
  private readonly slots: { buffer: Tensor; read: DeviceEvent }[] = [];
  private turn = 0;

  constructor(private readonly device: Device) {}

  copy(target: Tensor, source: Tensor): void {
    const slot = this.slot(source.bytes);
    slot.read.synchronize();
    const staged = slot.buffer.narrow(0, 0, source.bytes).viewAs(source.dtype).view(source.shape);
    staged.copy_(source);
    if (source.dtype === target.dtype) {
      target.copy_(staged, true);
    } else {
      // The device converts: a copy that moves and converts would convert on the host.
      target.copy_(staged.to({ device: this.device }, { nonBlocking: true }));
    }
    slot.read.record();
  }

  close(): void {
    for (const { buffer, read } of this.slots) {
      read.synchronize();
      read.dispose();
      buffer.dispose();
    }
  }

  private slot(bytes: number): { buffer: Tensor; read: DeviceEvent } {
    const place = this.turn++ % PINNED;
    let slot = this.slots[place];
    if (slot === undefined || slot.buffer.numel < bytes) {
      slot?.read.synchronize();
      slot?.buffer.dispose();
      const size = Math.max(bytes, PIECE);
      slot = {
        buffer: empty([size], { dtype: 'uint8', pinMemory: true }).keep(),
        read: slot?.read ?? new DeviceEvent(this.device),
      };
      this.slots[place] = slot;
    }
    return slot;
  }
}

/** The files of a checkpoint, each opened once, and the buffers that they are read into. */
class Files {
  private readonly open = new Map<string, Promise<ByteSource>>();
  private readonly free: Uint8Array[] = [];

  constructor(private readonly pieceBytes: number) {}

  async read({ file, data, offset, dtype }: StoredTensor, piece: Piece): Promise<Uint8Array> {
    const size = dtypeBytes(dtype);
    const [start, length] = [offset + piece.start * size, piece.count * size];
    const buffer = this.buffer(length);
    // The bytes of `data` are not aligned for their type, and those of a buffer are.
    if (data !== undefined) {
      buffer.set(data.subarray(start, start + length));
      return buffer;
    }
    let source = this.open.get(file);
    if (source === undefined) this.open.set(file, (source = openSource(file)));
    await (await source).read(start, length, buffer);
    return buffer;
  }

  /** Gives a buffer back for the next piece. */
  reuse(buffer: Uint8Array): void {
    if (buffer.length === this.pieceBytes) this.free.push(buffer);
  }

  async close(): Promise<void> {
    const sources = await Promise.allSettled(this.open.values());
    for (const source of sources) if (source.status === 'fulfilled') await source.value.close();
  }

  private buffer(length: number): Uint8Array {
    if (length > this.pieceBytes) return new Uint8Array(length);
    return this.free.pop() ?? new Uint8Array(this.pieceBytes);
  }
}
