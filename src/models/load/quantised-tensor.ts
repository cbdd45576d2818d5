/**
 * Matrices in few bits from files: read in the parts in which they are stored, or read as they are and quantised on their device, one at a time.
 * What is quantised is what the file holds, in its own type: the same bits whatever type the model computes in.
 */
import { nf4Parts, type Nf4Tensors, type StoredTensor } from '../../formats/stored.js';
import { Fp8Form, Nf4, type Nf4Part, type QuantisedForm } from '../../nn/index.js';
import { type Device, type DType, empty, full, type Tensor } from '../../torch/index.js';
import type { FiniteCheck } from './finite-check.js';
import { type Placement, type PlaceOptions, placeTensors, type Refill } from './place.js';
import { torchDType } from './stored-dtype.js';

/** Tensors that are read one after the other, and what is made of them once all are there. */
export interface Reading {
  readonly reads: readonly (Placement | Refill)[];
  /** Gets tensors that are its own from then on. */
  made(tensors: readonly Tensor[]): void;
}

/** Reads in the order given. */
export async function placeReadings(
  readings: readonly Reading[],
  device: Device,
  options: PlaceOptions = {},
): Promise<void> {
  const all = readings.flatMap(({ reads, made }) =>
    reads.map((read, i) => ({ read, of: reads.length, i, made })),
  );
  let own: Tensor[] = [];
  const placed = (tensor: Tensor, index: number): void => {
    const { of, made } = all[index]!;
    own.push(tensor);
    if (own.length < of) return;
    const tensors = own;
    own = [];
    made(tensors);
  };
  try {
    await placeTensors(
      all.map(({ read }) => read),
      device,
      placed,
      options,
    );
  } finally {
    for (const tensor of own) tensor.dispose();
  }
}

/** Type of what is quantised: that of the file; for fp64 the nearest fp32. */
function quantisedType(stored: StoredTensor): DType {
  return stored.dtype === 'F64' ? 'float32' : torchDType(stored);
}

/** The form of a matrix in few bits, or of one that is to be so. */
export function formOf(stored: StoredTensor): QuantisedForm | undefined {
  const { form } = stored;
  if (form === undefined) return undefined;
  if (form.name === 'fp8') return new Fp8Form();
  return new Nf4({ doubleQuantised: form.doubleQuantised, type: quantisedType(stored) });
}

export interface QuantisedReading {
  /** Gets the parts of the form, which are kept. */
  made(parts: object): void;
  /** Looks at the matrix before it is quantised, or at its scales. */
  readonly finite?: { readonly name: string; readonly check: FiniteCheck } | undefined;
}

/** What is read of a matrix that is stored in few bits or to be quantised. */
export function quantisedReading(
  stored: StoredTensor,
  device: Device,
  { made, finite }: QuantisedReading,
): Reading {
  const plain = { ...stored };
  delete plain.form;
  const form = formOf(stored)!;
  const parts = nf4Parts(stored);
  if (parts !== undefined) return partsReading(parts, device, { made, finite });
  return {
    reads: [{ stored: plain, dtype: quantisedType(stored), passes: true }],
    made: ([weight]) => {
      finite?.check.add(finite.name, weight!);
      const quantised = form.quantise(weight!);
      weight!.dispose();
      for (const part of Object.values(quantised) as Tensor[]) part.keep();
      made(quantised);
    },
  };
}

const READ = ['packed', 'absmax', 'code', 'nested', 'nestedCode'] as const satisfies Nf4Part[];

function partsReading(
  { offset, ...stored }: Nf4Tensors,
  device: Device,
  { made, finite }: QuantisedReading,
): Reading {
  const names = READ.filter((part) => stored[part] !== undefined);
  return {
    reads: names.map((part) => ({ stored: stored[part]!, dtype: torchDType(stored[part]!) })),
    made: (tensors) => {
      const parts = Object.fromEntries(names.map((part, i) => [part, tensors[i]!])) as Record<
        (typeof names)[number],
        Tensor
      >;
      finite?.check.add(finite.name, offset === undefined ? parts.absmax : parts.nested);
      made(
        offset === undefined
          ? parts
          : { ...parts, offset: full([1], offset, { dtype: 'float32', device }).keep() },
      );
    },
  };
}

/** The same made dense, in its shape. */
export function denseReading(
  stored: StoredTensor,
  device: Device,
  dtype: DType,
  made: (dense: Tensor) => void,
): Reading {
  return quantisedReading(stored, device, {
    made: (parts) => {
      const dense = empty(stored.shape, { dtype, device }).keep();
      formOf(stored)!.denseInto(parts, dense);
      for (const part of Object.values(parts) as Tensor[]) part.dispose();
      made(dense);
    },
  });
}

/** The parts of one matrix on the CPU; they belong to the caller. */
export async function readParts(
  stored: StoredTensor,
  signal: AbortSignal | undefined,
): Promise<object> {
  let read: object | undefined;
  const made = (parts: object): void => void (read = parts);
  await placeReadings([quantisedReading(stored, 'cpu', { made })], 'cpu', { signal });
  return read!;
}
