/**
 * Scaled dot-product attention `softmax(q kᵀ · scale + mask) v`, with the kernel chosen by name.
 *
 * The kernel is chosen for the device that a model is meant for (kernels.ts), not for the tensors at hand: a ghost run on meta
 * tensors then calls the very operator, and saves the very tensors, that the real run will.
 *
 * B: rows, T: queries, S: keys, H: query heads, G: key and value heads (H is a multiple of G), D: head size.
 */
import { UsageError } from '../base/errors.js';
import {
  _flashAttentionForward,
  _scaledDotProductCudnnAttention,
  _scaledDotProductEfficientAttention,
  _scaledDotProductFlashAttentionForCpu,
  cat,
  type Device,
  type DType,
  empty,
  full,
  noGrad,
  scope,
  tensor,
  type Tensor,
  zeros,
} from '../torch/index.js';

/**
 * - `cpu`: blocks of keys, never the whole score matrix; every floating dtype.
 * - `cudnn`: the fastest for whole rows in bf16 and fp16, from compute capability 8.0 on. It plans each new shape once (0.2 s),
 *   so rows should come in few lengths. Packed sequences go through `flash`: for them cuDNN plans at every call, and its
 *   gradients are wrong (libtorch 2.11, cuDNN 9.19).
 * - `flash`: FlashAttention 2; the same cards and dtypes, no mask, no planning.
 * - `efficient`: memory-efficient attention; also older cards and fp32.
 * - `math`: plain products and softmax, everywhere; the oracle of the others.
 */
export type AttentionKernel = 'cpu' | 'cudnn' | 'flash' | 'efficient' | 'math';

/** Division of the B · T positions of a batch, row by row, into consecutive sequences; made on the host with the batch. */
export interface Sequences {
  /** Number of positions of each sequence; they add up to B · T. */
  readonly lengths: readonly number[];
  /** The largest length. */
  readonly longest: number;
  /** Where each sequence begins, and the end: (sequences + 1), int32. */
  readonly starts: Tensor;
}

export interface AttentionOptions {
  kernel: AttentionKernel;
  /** A query sees no later key; wants T = S. @default false */
  causal?: boolean;
  /** A query sees only keys of its own sequence (packed samples; padding is a sequence of its own); wants T = S. */
  sequences?: Sequences | undefined;
  /** Added to the scores: broadcasts to (B, H, T, S), in the dtype of the queries. */
  mask?: Tensor | undefined;
  /** @default 1 / √D */
  scale?: number | undefined;
}

/**
 * q (B, T, H, D), k and v (B, S, G, D) -> (B, T, H, D).
 *
 * @throws UsageError `E_ATTENTION` for options that do not fit the shapes or the kernel.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  return scope(() => attend(q, k, v, options));
}

function attend(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { kernel, causal = false, sequences, mask, scale } = options;
  const [B, T, H, D] = q.shape as [number, number, number, number];
  const [S, G] = [k.shape[1]!, k.shape[2]!];
  if (H % G !== 0) throw misuse(`${H} query heads over ${G} key heads`, 'Use a multiple.');
  if ((causal || sequences !== undefined) && T !== S) {
    throw misuse(
      `${T} queries cannot be matched with ${S} keys by position`,
      'Pass a mask, as causalMask makes it.',
    );
  }
  if (D % 8 !== 0 && !ANY_HEAD_SIZE.has(kernel)) {
    const wide = [q, k, v].map((x) => widened(x, 8 - (D % 8))) as [Tensor, Tensor, Tensor];
    const same = { ...options, scale: scale ?? 1 / Math.sqrt(D) };
    return attend(...wide, same).narrow(3, 0, D);
  }
  const settings = { causal, mask, scale };
  if (sequences === undefined) return KERNELS[kernel](q, k, v, settings);
  const { lengths } = sequences;
  if (mask !== undefined) throw misuse('a mask excludes sequences', 'Put both into one mask.');
  if (lengths.reduce((sum, length) => sum + length, 0) !== B * T) {
    throw misuse(
      `sequences of ${lengths.join(' + ')} positions do not fill ${B} x ${T}`,
      'Count padding as a sequence.',
    );
  }
  const shape = rowsOf(sequences);
  if (shape !== null) {
    const rows = [q, k, v].map((x) => x.reshape([...shape, x.shape[2]!, D])) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    return KERNELS[kernel](...rows, settings).reshape(q.shape);
  }
  const packed = PACKED_KERNELS[kernel];
  return packed === undefined
    ? bySequence(q, k, v, lengths, (...qkv) => KERNELS[kernel](...qkv, settings))
    : packed(flat(q), flat(k), flat(v), sequences, settings).reshape(q.shape);
}

/** Prepares the division into sequences; `starts` is placed on `device`. */
export function packSequences(lengths: readonly number[], device: Device): Sequences {
  const starts = new Int32Array(lengths.length + 1);
  lengths.forEach((length, i) => (starts[i + 1] = starts[i]! + length));
  return { lengths, longest: Math.max(0, ...lengths), starts: tensor(starts, { device }) };
}

/** Lengths of the sequences in rows that are padded on the right to `width`: each row's own, then its padding. */
export function paddedLengths(rows: readonly number[], width: number): number[] {
  return rows.flatMap((length) => [length, width - length]).filter((length) => length > 0);
}

/** Additive mask (queries, keys) under which the last query sees every key, each one before it one key less. */
export function causalMask(
  queries: number,
  keys: number,
  options: { dtype: DType; device: Device },
): Tensor {
  return scope(() => full([queries, keys], -Infinity, options).triu(1 + keys - queries));
}

interface Settings {
  causal: boolean;
  mask: Tensor | undefined;
  scale: number | undefined;
}
type Kernel = (q: Tensor, k: Tensor, v: Tensor, settings: Settings) => Tensor;
/** q, k and v as (B · T, heads, D). */
type PackedKernel = (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  sequences: Sequences,
  settings: Settings,
) => Tensor;

/** Kernels that take any head size; the others take multiples of 8. */
const ANY_HEAD_SIZE: ReadonlySet<AttentionKernel> = new Set(['cpu', 'math']);

const KERNELS: Readonly<Record<AttentionKernel, Kernel>> = {
  cpu: (q, k, v, { causal, mask, scale }) =>
    heads(
      _scaledDotProductFlashAttentionForCpu(heads(q), heads(k), heads(v), 0, causal, {
        attnMask: mask,
        scale,
      })[0],
    ),
  cudnn: (q, k, v, { causal, mask, scale }) =>
    heads(
      _scaledDotProductCudnnAttention(
        heads(q),
        heads(k),
        heads(v),
        mask ?? null,
        true,
        0,
        causal,
        false,
        { scale },
      )[0]!,
    ),
  flash: (q, k, v, { causal, mask, scale }) => {
    if (mask !== undefined)
      throw misuse('the kernel "flash" takes no mask', 'Use the kernel "cudnn".');
    const [T, S] = [q.shape[1]!, k.shape[1]!];
    return _flashAttentionForward(q, k, v, null, null, T, S, 0, causal, false, { scale })[0]!;
  },
  efficient: (q, k, v, { causal, mask, scale }) => {
    const [B, T, H] = q.shape as [number, number, number];
    const bias = mask === undefined ? null : aligned(mask).expand([B, H, T, k.shape[1]!]);
    const [qH, kH, vH] = [heads(q), heads(spread(k, q)), heads(spread(v, q))];
    return heads(
      _scaledDotProductEfficientAttention(qH, kH, vH, bias, true, 0, causal, { scale })[0]!,
    );
  },
  math: (q, k, v, { causal, mask, scale = 1 / Math.sqrt(q.shape[3]!) }) => {
    const [kH, vH] = [heads(spread(k, q)), heads(spread(v, q))];
    let scores = heads(q).matmul(kH.transpose(-1, -2)).mul(scale);
    if (mask !== undefined) scores = scores.add(mask);
    if (causal)
      scores = scores.add(
        causalMask(q.shape[1]!, k.shape[1]!, { dtype: q.dtype, device: q.device }),
      );
    return heads(scores.softmax(-1).matmul(vH));
  },
};

/** cuDNN makes a plan for each new shape (about 0.16 s on an H100): only multiples of this are worth one. */
const PLANNED = 128;

/** Number and length of sequences that are rows of a batch: those of one length, for which a plan is worth it. */
export function rowsOf({ lengths }: Sequences): readonly [rows: number, length: number] | null {
  const length = lengths[0]!;
  const areRows = lengths.every((other) => other === length) && length % PLANNED === 0;
  return areRows ? [lengths.length, length] : null;
}

const flashPacked: PackedKernel = (q, k, v, { starts, longest }, { causal, scale }) =>
  _flashAttentionForward(q, k, v, starts, starts, longest, longest, 0, causal, false, {
    scale,
  })[0]!;

/** Kernels that take cumulative lengths; the others get one call for each sequence. */
const PACKED_KERNELS: Readonly<Partial<Record<AttentionKernel, PackedKernel>>> = {
  cudnn: flashPacked,
  flash: flashPacked,
};

/** One call for each sequence. Splitting at once, rather than taking slices, gives a backward that writes each gradient once. */
function bySequence(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  lengths: readonly number[],
  kernel: (q: Tensor, k: Tensor, v: Tensor) => Tensor,
): Tensor {
  const parts = [q, k, v].map((x) => flat(x).unsqueeze(0).splitWithSizes(lengths, 1)) as [
    Tensor[],
    Tensor[],
    Tensor[],
  ];
  const results = lengths.map((_, i) => kernel(parts[0][i]!, parts[1][i]!, parts[2][i]!));
  return cat(results, 1).reshape(q.shape);
}

/** (B, T, H, D) <-> (B, H, T, D) */
function heads(x: Tensor): Tensor {
  return x.transpose(1, 2);
}

/** (B, T, H, D) -> (B · T, H, D) */
function flat(x: Tensor): Tensor {
  return x.flatten(0, 1);
}

/** Repeats key or value heads (B, S, G, D) until each query head has its own: (B, S, H, D). */
function spread(x: Tensor, q: Tensor): Tensor {
  const [B, S, G, D] = x.shape as [number, number, number, number];
  const H = q.shape[2]!;
  if (H === G) return x;
  return x
    .unsqueeze(3)
    .expand([B, S, G, H / G, D])
    .reshape([B, S, H, D]);
}

/** Adds zeros to each head, which change no score. */
function widened(x: Tensor, count: number): Tensor {
  const [B, T, H] = x.shape as [number, number, number];
  return cat([x, zeros([B, T, H, count], { dtype: x.dtype, device: x.device })], 3);
}

/** The mask with its rows 16 elements or a multiple apart in memory, as the kernel wants them. */
function aligned(mask: Tensor): Tensor {
  const keys = mask.size(-1);
  const rows = empty([...mask.shape.slice(0, -1), Math.ceil(keys / 16) * 16], {
    dtype: mask.dtype,
    device: mask.device,
  });
  return noGrad(() => rows.narrow(-1, 0, keys).copy_(mask));
}

function misuse(what: string, hint: string): UsageError {
  return new UsageError(`Attention: ${what}.`, { code: 'E_ATTENTION', hint });
}
