/**
 * Dropout (Srivastava et al. 2014) whose masks are a function of where an element belongs: of a key, the layer, the record, the token
 * in the record and the channel. However records are packed, cut into micro-batches or dealt over ranks, and however often a segment is
 * computed, the mask is the same; no mask is saved.
 */
import type { CounterKey, Tensor } from '../torch/index.js';

/**
 * Whose rows the rows of a tensor are (G each), int64. Of R rows R / G neighbouring ones share a place: row r of them is number
 * `index * R / G + r` of the record.
 */
export interface RowPlaces {
  /** Position of the record in the effective batch. */
  readonly records: Tensor;
  /** Number of the token in its record; for pictures, of the picture. */
  readonly indices: Tensor;
}

/** What one layer does to its input, the same at every call: linear, and its own adjoint. */
export class Dropout {
  constructor(
    readonly probability: number,
    readonly places: RowPlaces,
    readonly key: CounterKey,
    readonly layer: number,
  ) {}

  /** x (..., C) of R rows -> the same shape, contiguous. */
  apply(x: Tensor): Tensor {
    const { records, indices } = this.places;
    return x.dropout(this.probability, records, indices, this.key, this.layer);
  }
}

/** The masks of one run of a segment: each layer that drops takes the next. */
export class DropoutMasks {
  private layer = 0;

  constructor(
    private readonly key: CounterKey,
    private places: RowPlaces,
  ) {}

  /** The layers from here on work on some of the rows alone: of positions (L), int64. */
  narrow(positions: Tensor): void {
    const { records, indices } = this.places;
    this.places = {
      records: records.indexSelect(0, positions),
      indices: indices.indexSelect(0, positions),
    };
  }

  /** Of the next layer. */
  next(probability: number): Dropout {
    return new Dropout(probability, this.places, this.key, this.layer++);
  }
}

/**
 * Zeroes each element with the given probability and divides the others by `1 - probability`. What is not finite stays so.
 *
 * Without masks, which is how a model is evaluated, and at probability 0 the result is `x` itself.
 */
export function dropout(x: Tensor, probability: number, masks?: DropoutMasks): Tensor {
  return masks === undefined || probability === 0 ? x : masks.next(probability).apply(x);
}
