/**
 * Causal attention over packed sequences with its backward by hand: the kernels of attention.ts, whose results and log-sum-exps are
 * kept where they are wanted. What has no backward of its own is recorded and differentiated by autograd, in its backward.
 *
 * N: positions of all sequences, H: query heads, G: key and value heads, D: head size.
 */
import {
  _flashAttentionBackward,
  _flashAttentionForward,
  _scaledDotProductCudnnAttention,
  _scaledDotProductFlashAttentionForCpu,
  _scaledDotProductFlashAttentionForCpuBackward,
  cat,
  cudnnAttentionBackward,
  enableGrad,
  grad,
  scope,
  type Tensor,
} from '../torch/index.js';
import { attention, type AttentionKernel, rowsOf, type Sequences } from './attention.js';

export type QueriesKeysValues = readonly [qNHD: Tensor, kNGD: Tensor, vNGD: Tensor];

export interface Attended {
  /** (N, H, D) */
  readonly output: Tensor;
  /** Log-sum-exps and what else the backward reads beside the output. */
  readonly rest: readonly Tensor[];
}

export interface AttentionByHand {
  forward(qkv: QueriesKeysValues): Attended;
  /** The gradients of queries, keys and values, for that of the output. */
  backward(gNHD: Tensor, qkv: QueriesKeysValues, attended: Attended): QueriesKeysValues;
}

/** Chooses as `attention` does. */
export function attentionByHand(kernel: AttentionKernel, sequences: Sequences): AttentionByHand {
  const byHand: AttentionByHand = {
    forward: (qkv) => scope(() => kindOf(kernel, sequences, qkv).forward(qkv)),
    backward: (g, qkv, attended) =>
      scope(() => kindOf(kernel, sequences, qkv).backward(g, qkv, attended)),
  };
  return byHand;
}

function kindOf(
  kernel: AttentionKernel,
  sequences: Sequences,
  [qNHD]: QueriesKeysValues,
): AttentionByHand {
  const D = qNHD.shape[2]!;
  if (kernel === 'cpu') return onCpu(sequences);
  if ((kernel !== 'cudnn' && kernel !== 'flash') || D % 8 !== 0) return recorded(kernel, sequences);
  const rows = rowsOf(sequences);
  return kernel === 'cudnn' && rows !== null ? cudnn(rows) : flash(sequences);
}

/** The sequences as rows of a batch. */
function cudnn([rows, length]: readonly [number, number]): AttentionByHand {
  const asRows = (x: Tensor): Tensor =>
    x.reshape([rows, length, x.shape[1]!, x.shape[2]!]).transpose(1, 2);
  const back = (x: Tensor, like: Tensor): Tensor => x.transpose(1, 2).reshape(like.shape);
  return {
    forward([q, k, v]) {
      const [output, lse, , , , , seed, offset] = _scaledDotProductCudnnAttention(
        asRows(q),
        asRows(k),
        asRows(v),
        null,
        true,
        0,
        true,
      );
      return { output: back(output!, q), rest: [lse!, seed!, offset!] };
    },
    backward(g, [q, k, v], { output, rest: [lse, seed, offset] }) {
      const [dq, dk, dv] = cudnnAttentionBackward(
        asRows(g),
        asRows(q),
        asRows(k),
        asRows(v),
        asRows(output),
        lse!,
        seed!,
        offset!,
        true,
      );
      return [back(dq, q), back(dk, k), back(dv, v)];
    },
  };
}

function flash({ starts, longest }: Sequences): AttentionByHand {
  return {
    forward([q, k, v]) {
      const [output, lse, rng, unused] = _flashAttentionForward(
        q,
        k,
        v,
        starts,
        starts,
        longest,
        longest,
        0,
        true,
        false,
      );
      return { output: output!, rest: [lse!, rng!, unused!] };
    },
    backward(g, [q, k, v], { output, rest: [lse, rng, unused] }) {
      const [dq, dk, dv] = _flashAttentionBackward(
        g,
        q,
        k,
        v,
        output,
        lse!,
        starts,
        starts,
        longest,
        longest,
        0,
        true,
        rng!,
        unused!,
      );
      return [dq, dk, dv];
    },
  };
}

/** One call for each sequence; sequences of one length are rows of one call. */
function onCpu(sequences: Sequences): AttentionByHand {
  const { lengths } = sequences;
  const rows = rowsOf(sequences);
  const parts = (x: Tensor): Tensor[] => {
    if (rows !== null) return [x.reshape([...rows, x.shape[1]!, x.shape[2]!]).transpose(1, 2)];
    return x
      .unsqueeze(0)
      .splitWithSizes(lengths, 1)
      .map((part) => part.transpose(1, 2));
  };
  const together = (all: readonly Tensor[], like: Tensor): Tensor => {
    const apart = all.map((part) => part.transpose(1, 2));
    return (apart.length === 1 ? apart[0]! : cat(apart, 1)).reshape(like.shape);
  };
  return {
    forward([q, k, v]) {
      const [qs, ks, vs] = [parts(q), parts(k), parts(v)];
      const results = qs.map((each, i) =>
        _scaledDotProductFlashAttentionForCpu(each, ks[i]!, vs[i]!, 0, true),
      );
      return {
        output: together(
          results.map(([output]) => output),
          q,
        ),
        rest: results.map(([, lse]) => lse),
      };
    },
    backward(g, [q, k, v], { output, rest }) {
      const [qs, ks, vs, gs, outputs] = [parts(q), parts(k), parts(v), parts(g), parts(output)];
      const results = qs.map((each, i) =>
        _scaledDotProductFlashAttentionForCpuBackward(
          gs[i]!,
          each,
          ks[i]!,
          vs[i]!,
          outputs[i]!,
          rest[i]!,
          0,
          true,
        ),
      );
      const gradient = (which: 0 | 1 | 2, like: Tensor): Tensor =>
        together(
          results.map((result) => result[which]),
          like,
        );
      return [gradient(0, q), gradient(1, k), gradient(2, v)];
    },
  };
}

function recorded(kernel: AttentionKernel, sequences: Sequences): AttentionByHand {
  const options = { kernel, causal: true, sequences };
  const run = ([q, k, v]: QueriesKeysValues): Tensor =>
    attention(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), options).squeeze(0);
  return {
    forward: (qkv) => ({ output: run(qkv), rest: [] }),
    backward(g, qkv) {
      const leaves = qkv.map((each) => each.detach().requiresGrad_());
      const output = enableGrad(() => run(leaves as [Tensor, Tensor, Tensor]));
      const [dq, dk, dv] = grad([output], leaves, [g]) as [Tensor, Tensor, Tensor];
      return [dq, dk, dv];
    },
  };
}
