/** A matrix in NF4 as the writers of files take it: under bitsandbytes' names, with type and shape as JSON in bytes. */
import { elementCount } from '../../formats/stored.js';
import type { TensorSource } from '../../formats/safetensors/write.js';
import {
  NF4_BLOCK,
  NF4_LEAVES,
  NF4_NESTED_BLOCK,
  type Nf4Form,
  type Nf4Part,
  type Nf4Parts,
  nf4Shapes,
} from '../../nn/index.js';
import type { DType, Tensor } from '../../torch/index.js';
import { storedDType } from '../load/stored-dtype.js';

/** Bytes of the JSON; what it leaves is filled with spaces, so that the length is known beforehand. */
const STATE_BYTES = 256;

/** `quantization_config` of a model of which some modules are in NF4 and others, by name, are not. */
export function quantizationConfig({ doubleQuantised }: Nf4Form, dtype: DType, skipped: string[]) {
  return {
    bnb_4bit_compute_dtype: dtype,
    bnb_4bit_quant_storage: 'uint8',
    bnb_4bit_quant_type: 'nf4',
    bnb_4bit_use_double_quant: doubleQuantised,
    llm_int8_skip_modules: skipped,
    load_in_4bit: true,
    load_in_8bit: false,
    quant_method: 'bitsandbytes',
  };
}

export interface Nf4Source {
  /** Of the weight in the file. */
  readonly name: string;
  readonly shape: readonly number[];
  /** That the weight is made dense in. */
  readonly dtype: DType;
  readonly form: Nf4Form;
  /** Makes the parts, which are freed when they have been read. */
  readonly parts: () => Promise<Nf4Parts>;
}

/** The bytes of one matrix at a time: its tensors are asked for one after the other. */
export class Nf4Sources {
  private last: { readonly name: string; readonly bytes: Promise<Bytes> } | undefined;

  /** All tensors of a matrix. */
  of(source: Nf4Source): TensorSource[] {
    const { name, shape, form } = source;
    const leaves = [...nf4Shapes(elementCount(shape), form)].filter(([part]) => part !== 'offset');
    return [
      ...leaves.map(([part, facts]) => ({
        name: name.replace(/weight$/, NF4_LEAVES[part]),
        dtype: storedDType(facts.dtype),
        shape: facts.shape,
        bytes: async () => (await this.bytesOf(source)).parts.get(part)!,
      })),
      {
        name: `${name}.quant_state.bitsandbytes__nf4`,
        dtype: 'U8' as const,
        shape: [STATE_BYTES],
        bytes: async () => (await this.bytesOf(source)).state,
      },
    ];
  }

  private bytesOf(source: Nf4Source): Promise<Bytes> {
    if (this.last?.name !== source.name) {
      this.last = { name: source.name, bytes: bytesOf(source) };
    }
    return this.last.bytes;
  }
}

interface Bytes {
  readonly parts: ReadonlyMap<Nf4Part, Uint8Array>;
  readonly state: Uint8Array;
}

async function bytesOf({ shape, dtype, form, parts: make }: Nf4Source): Promise<Bytes> {
  const parts = await make();
  try {
    const entries = Object.entries(parts) as [Nf4Part, Tensor][];
    const bytes = new Map(entries.map(([part, tensor]) => [part, tensor.toBytes()]));
    const state = {
      ...{ quant_type: 'nf4', blocksize: NF4_BLOCK, dtype, shape },
      ...(form.doubleQuantised && {
        nested_blocksize: NF4_NESTED_BLOCK,
        nested_dtype: 'float32',
        nested_offset: parts.offset!.item(),
      }),
    };
    const text = JSON.stringify(state).padEnd(STATE_BYTES);
    return { parts: bytes, state: new TextEncoder().encode(text) };
  } finally {
    for (const tensor of Object.values(parts) as Tensor[]) tensor.dispose();
  }
}
