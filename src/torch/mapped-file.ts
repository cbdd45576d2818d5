/**
 * A memory-mapped file whose parts become tensors without copying.
 *
 * The map is private and copy-on-write: writing to such a tensor never changes the file. A file that was changed since it was
 * mapped is refused where that can be seen; one that is cut short while its tensors are read faults like any mapped file.
 */

import { DataError } from '../base/errors.js';
import type { DType } from './dtype.js';
import { B, dtypeArgument } from './door.js';
import { expectDone, expectValue, failureError, isFailure } from './errors.js';
import { putGeometry } from './geometry.js';
import { native } from './native.js';
import { Tensor } from './tensor.js';

export interface MappedTensorOptions {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Elements from one index to the next, per dimension. @default dense */
  readonly strides?: readonly number[];
  /** First byte in the file. */
  readonly offset: number;
}

export class MappedFile {
  private id: number;
  /** Bytes of the file when it was mapped. */
  readonly size: number;

  /** @throws DataError `E_FILE` if it cannot be opened. */
  constructor(readonly path: string) {
    expectDone(native.mapFile(path), `map '${path}'`);
    this.id = B[0]!;
    this.size = B[1]!;
  }

  /**
   * A tensor on the file's bytes; copied only where the offset is not aligned for the dtype.
   *
   * @throws DataError `E_EXTENT` if it reaches beyond the file, `E_FILE_CHANGED` if the file is no longer what was mapped.
   */
  tensor({ dtype, shape, strides, offset }: MappedTensorOptions): Tensor {
    this.checkRange(offset, 0);
    const code = dtypeArgument(dtype);
    putGeometry(shape, strides);
    expectDone(native.mappedTensor(this.id, offset, code), `map '${this.path}'`);
    return new Tensor(B[0]!);
  }

  /** @throws DataError `E_FILE_CHANGED` if the file is no longer what was mapped. */
  check(): void {
    expectDone(native.checkFile(this.id), `map '${this.path}'`);
  }

  /** Reads a range into the page cache on another thread, so that using it later does not wait for the disk. */
  prefetch(offset = 0, length = this.size - offset): Promise<void> {
    return this.readRange(offset, length, 0);
  }

  /**
   * Reads the bytes from `offset` on into all of a dense tensor on the CPU, on another thread and past the map: a file that is
   * cut short meanwhile rejects. The tensor's memory lives until then, also when the tensor is disposed before.
   *
   * @throws DataError `E_EXTENT`, `E_FILE`, `E_FILE_CHANGED`; UsageError `E_ARGUMENT` for a tensor that is not dense or elsewhere
   */
  async read(into: Tensor, offset: number): Promise<void> {
    this.check();
    await this.readRange(offset, into.bytes, into.handle);
  }

  private async readRange(offset: number, length: number, handle: number): Promise<void> {
    this.checkRange(offset, length);
    const context = `read '${this.path}'`;
    const promise = expectValue(native.readFile(this.id, offset, length, handle), context);
    try {
      await promise;
    } catch (failure) {
      throw isFailure(failure) ? failureError(failure, { operator: context }) : failure;
    }
  }

  private checkRange(offset: number, length: number): void {
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
    if (whole && offset >= 0 && length >= 0 && offset + length <= this.size) return;
    throw new DataError(
      `'${this.path}' has ${this.size} bytes, not ${length} from byte ${offset} on`,
      {
        code: 'E_EXTENT',
        hint: 'The data are shorter than their description: fetch or write the file again.',
      },
    );
  }

  /** Closes it; tensors made of it stay valid. */
  dispose(): void {
    if (this.id < 0) return;
    expectDone(native.closeFile(this.id), `close '${this.path}'`);
    this.id = -1;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
