/**
 * GPUs that runs are planned for: their memory and speeds. What was measured names the file of `bench/results/`; what was not is the
 * maker's figure, times an efficiency that the measured card reached.
 */

import { didYouMean } from '../../base/did-you-mean.js';
import { UsageError } from '../../base/errors.js';
import type { ChosenDevice } from '../../torch/index.js';

/** Where a figure comes from. */
export type Basis = 'measured' | 'published';

export interface Card {
  /** As `--gpus` names it. */
  readonly name: string;
  /** What the driver calls it. */
  readonly words: RegExp;
  readonly computeCapability: number;
  /** Bytes that a process can have with the context. */
  readonly memory: number;
  /** Bytes of the context and of the code of libraries. */
  readonly context: number;
  /** Bytes beside it of NCCL, where there are several ranks: its buffers and code. */
  readonly nccl: number;
  /** Operations a second of long matrix products in bf16. */
  readonly products: number;
  /** The same in fp32, which libtorch does not round to TF32 unless it is told to. */
  readonly fullProducts: number;
  /** Of attention over long rows, forward and backward. */
  readonly attention: readonly [forward: number, backward: number];
  /** Bytes a second that kernels read and write. */
  readonly bandwidth: number;
  /** Bytes a second between neighbours: what an all-gather brings each rank. */
  readonly link: number;
  /** Bytes a second between host and card. */
  readonly host: number;
  readonly basis: Basis;
}

const GIB = 2 ** 30;
const TERA = 1e12;
const GIGA = 1e9;

/** Bytes of a context with the code of libraries: what one H200 showed in 52 of 56 runs (2026-11-29-plan-h200.md). */
const CONTEXT = 758.8125 * 2 ** 20;

/** What each of two H200 had more (2026-11-29-plan-warm-h200.md). */
const NCCL = 1363.5 * 2 ** 20;

/**
 * What of the maker's figures the H200 reaches (2026-11-29-kernels-h200.md): long products 712 of 989 TFLOP/s, memory 3.7 of 4.8 TB/s;
 * attention by cuDNN 650 and 485 TFLOP/s where rows are long.
 */
const PRODUCTS = 0.72;
const MEMORY = 0.77;
const ATTENTION = [0.657, 0.49] as const;

interface Published {
  readonly memory: number;
  /** Dense bf16, TFLOP/s. */
  readonly teraflops: number;
  /** fp32 without tensor cores. */
  readonly full: number;
  /** GB/s */
  readonly bandwidth: number;
  readonly link: number;
  readonly host: number;
}

function published(
  name: string,
  words: RegExp,
  computeCapability: number,
  { memory, teraflops, full, bandwidth, link, host }: Published,
): Card {
  const products = teraflops * TERA * PRODUCTS;
  return {
    ...{ name, words, computeCapability, products },
    fullProducts: full * TERA * PRODUCTS,
    memory: Math.round(memory),
    context: Math.round(CONTEXT),
    nccl: Math.round(NCCL),
    attention: [teraflops * TERA * ATTENTION[0], teraflops * TERA * ATTENTION[1]],
    bandwidth: bandwidth * GIGA * MEMORY,
    link: link * GIGA,
    host: host * GIGA,
    basis: 'published',
  };
}

const H200: Card = {
  ...published('H200', /H200/, 9, {
    ...{ memory: 139.8 * GIB, teraflops: 989, full: 67, bandwidth: 4800 },
    // 2026-11-28-ranks-h200-x2.md: all-gather 237, reduce-scatter 225 GB/s. That to the host was not measured.
    ...{ link: 230, host: 50 },
  }),
  basis: 'measured',
};

/** The slower kinds of a name stand before it. */
export const CARDS: readonly Card[] = [
  H200,
  published('H100', /H100/, 9, {
    ...{ memory: 79.1 * GIB, teraflops: 989, full: 67, bandwidth: 3350, link: 230, host: 50 },
  }),
  published('A100-40GB', /A100.*40/, 8, {
    ...{ memory: 39.4 * GIB, teraflops: 312, full: 19.5, bandwidth: 1555, link: 200, host: 22 },
  }),
  published('A100-80GB', /A100/, 8, {
    ...{ memory: 79.2 * GIB, teraflops: 312, full: 19.5, bandwidth: 2039, link: 200, host: 22 },
  }),
  published('L40S', /L40S/, 8.9, {
    ...{ memory: 44.5 * GIB, teraflops: 362, full: 91.6, bandwidth: 864, link: 20, host: 22 },
  }),
  published('RTX4090', /4090/, 8.9, {
    ...{ memory: 23.6 * GIB, teraflops: 165, full: 82.6, bandwidth: 1008, link: 12, host: 22 },
  }),
  published('RTX3090', /3090/, 8.6, {
    ...{ memory: 23.7 * GIB, teraflops: 71, full: 35.6, bandwidth: 936, link: 12, host: 22 },
  }),
  published('A6000', /A6000/, 8.6, {
    ...{ memory: 47.5 * GIB, teraflops: 155, full: 38.7, bandwidth: 768, link: 20, host: 22 },
  }),
  published('B200', /B200/, 10, {
    ...{ memory: 178 * GIB, teraflops: 2250, full: 75, bandwidth: 8000, link: 400, host: 50 },
  }),
];

/** One of so many ranks' cards. */
export function asRank(card: Card, ranks: number): Card {
  return ranks === 1 ? card : { ...card, context: card.context + card.nccl };
}

/** A known card, with what the device says of itself; memory does not depend on the speeds of another one. */
export function cardOf({ name, capability, totalBytes }: ChosenDevice): Card {
  const known = CARDS.find(({ words }) => words.test(name)) ?? CARDS[0]!;
  const computeCapability = capability ?? known.computeCapability;
  return { ...known, name, computeCapability, memory: totalBytes };
}

/** Whether libtorch's allocator was asked for segments that grow. */
export function isExpandable(env: NodeJS.ProcessEnv): boolean {
  const asked = env['PYTORCH_ALLOC_CONF'] ?? env['PYTORCH_CUDA_ALLOC_CONF'] ?? '';
  return /expandable_segments:true/i.test(asked);
}

/** So many of a card. */
export interface Gpus {
  readonly count: number;
  readonly card: Card;
}

/**
 * What `8xA100-40GB`, or `H200` alone, means.
 *
 * @throws UsageError `E_GPUS`
 */
export function readGpus(text: string): Gpus {
  const found = /^(?:([1-9]\d{0,4})\s*x\s*)?(\S.*)$/i.exec(text.trim());
  const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]|^nvidia|^rtx/g, '');
  const wanted = plain(found?.[2] ?? '');
  const matches = CARDS.filter(({ name }) => {
    const own = plain(name);
    return (
      own === wanted || own === `${wanted}gb` || own === `rtx${wanted}` || own === `${wanted}80gb`
    );
  });
  const card = matches[0];
  if (found === null || card === undefined) {
    const names = CARDS.map(({ name }) => name);
    const nearest = didYouMean(found?.[2] ?? '', names);
    throw new UsageError(`'${text}' names no GPUs that are known`, {
      code: 'E_GPUS',
      hint: `${nearest === undefined ? '' : `Did you mean ${nearest}? `}Write a number, x and one of ${names.join(', ')}: 8xA100-40GB.`,
    });
  }
  return { count: Number(found[1] ?? 1), card };
}
