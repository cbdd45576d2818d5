/** What of a recipe can be changed for memory or for time: each change as lines of `--set`, with what it does to the numbers of a run. */

import { effectiveBatch, isFrozen, type Recipe } from '../../config/index.js';
import type { Gpus } from '../devices/cards.js';

/**
 * What differs from the run as the recipe has it: nothing, the order of sums and the types that results are rounded to, or what is
 * learnt by which method.
 */
export const NUMERICS = ['none', 'rounding', 'another method'] as const;
export type Numerics = (typeof NUMERICS)[number];

export interface Change {
  /** `field=value`, in order. */
  readonly set: readonly string[];
  readonly numerics: Numerics;
}

export const AS_IT_IS: Change = { set: [], numerics: 'none' };

/** All of them, one after the other. */
export function together(...changes: readonly Change[]): Change {
  const worst = Math.max(...changes.map(({ numerics }) => NUMERICS.indexOf(numerics)));
  const lines = new Map<string, string>();
  for (const line of changes.flatMap(({ set }) => set)) {
    // A later line for a field stands in the place of an earlier one.
    const field = line.slice(0, line.indexOf('='));
    lines.delete(field);
    lines.set(field, line);
  }
  return { set: [...lines.values()], numerics: NUMERICS[worst]! };
}

const change = (numerics: Numerics, ...set: string[]): Change => ({ set, numerics });

/** From this compute capability on GPUs multiply in fp8: Ada, Hopper. */
const FP8_CAPABILITY = 8.9;

/** Low-rank adapters in place of full training, and bases of fewer bits beneath. */
export function methodsOf({ train, model }: Recipe, { card }: Gpus): Change[] {
  const full = (['vision', 'decoder'] as const).filter((part) => train[part] === 'full');
  const lora = full.map((part) => `train.${part}.lora={}`);
  const { decoder } = train;
  const isBare = decoder === 'full' || (typeof decoder === 'object' && decoder.base === undefined);
  const methods = lora.length === 0 ? [] : [change('another method', ...lora)];
  // A new model has no base, and a frozen decoder alone has none by the recipe's will.
  if (!isBare || model.config !== undefined) return methods;
  const onBase = (...base: string[]): Change => change('another method', ...lora, ...base);
  methods.push(onBase('train.decoder.base=nf4', 'train.decoder.doubleQuantised=true'));
  if (card.computeCapability >= FP8_CAPABILITY) methods.push(onBase('train.decoder.base=fp8'));
  return methods;
}

/** Stages of ZeRO, from the one of the recipe to that which shares most. */
export function stagesOf({ parallel }: Recipe, { count }: Gpus): Change[] {
  if (count === 1) return [AS_IT_IS];
  const all = parallel.shardOver !== undefined && parallel.shardOver < count;
  return [
    AS_IT_IS,
    // Shares over all ranks are smaller.
    ...(all ? [change('none', `parallel.shardOver=${count}`)] : []),
    ...[1, 2, 3]
      .filter((stage) => stage > parallel.zero)
      .map((stage) => change('none', `parallel.zero=${stage}`)),
  ];
}

/** Neighbours that hold a whole together, fewer than all: less is sent, more is held. */
export function narrowerOf({ parallel }: Recipe, { count }: Gpus): Change[] {
  return [4, 2, 8, 16]
    .filter((over) => over < count && count % over === 0 && over < (parallel.shardOver ?? count))
    .map((over) => change('none', `parallel.shardOver=${over}`));
}

/** Where the optimizer lies, and in what type. */
export function statesOf(recipe: Recipe, { count }: Gpus): Change[] {
  const { precision, parallel, train } = recipe;
  if (parallel.offload !== 'none' || !Object.values(train).includes('full')) return [];
  const smaller = (['bf16', 'int8'] as const).filter(
    (type) => precision.states === 'fp32' || (precision.states === 'bf16' && type === 'int8'),
  );
  const inHost = precision.master === 'fp32' && precision.states === 'fp32';
  return [
    ...smaller.toReversed().map((type) => change('rounding', `precision.states=${type}`)),
    ...(inHost ? [change('none', 'parallel.offload=optimizer')] : []),
    ...(inHost && count > 1
      ? [change('none', 'parallel.zero=3', 'parallel.offload=parameters')]
      : []),
    ...updateInBackwardOf(recipe, count),
  ];
}

/** It accumulates nothing, and the norm of all gradients is not known in time. */
function updateInBackwardOf(recipe: Recipe, count: number): Change[] {
  const { optimizer, precision, batchSize, effectiveBatch: meant } = recipe;
  if (optimizer.updateInBackward || precision.compute === 'fp16') return [];
  const { accumulate } = effectiveBatch(recipe, count);
  const isBatchKept = accumulate === 1;
  const set = ['optimizer.updateInBackward=true'];
  if (optimizer.clipNorm !== null) set.push('optimizer.clipNorm=null');
  if (!isBatchKept) {
    if (batchSize === undefined) set.push('batchSize=1');
    set.push('accumulate=1');
    // Adam's steps follow the root of the batch.
    if (meant !== undefined) set.push('learningRateRule=sqrt');
  }
  const numerics = isBatchKept && optimizer.clipNorm === null ? 'none' : 'another method';
  return [change(numerics, ...set)];
}

/** Micro-batches of fewer records with more of them accumulated, or of more; the records of an update stay. */
export function batchesOf(recipe: Recipe, { count }: Gpus): { less: Change[]; more: Change[] } {
  const { batchSize, batchTokens, text, effectiveBatch: meant } = recipe;
  if (batchTokens !== undefined) {
    const line = (tokens: number): Change => change('rounding', `batchTokens=${tokens}`);
    const less: Change[] = [];
    for (let to = Math.floor(batchTokens / 2); to >= text.maxLength; to = Math.floor(to / 2)) {
      less.push(line(to));
    }
    return { less, more: [2, 4].map((times) => line(times * batchTokens)) };
  }
  const records = effectiveBatch(recipe, count).records / count;
  // Updates in the backward accumulate nothing.
  if (recipe.optimizer.updateInBackward) return { less: [], more: [] };
  const sizes = Array.from({ length: records }, (_, i) => i + 1).filter((n) => records % n === 0);
  const line = (size: number): Change =>
    change(
      'rounding',
      `batchSize=${size}`,
      ...(recipe.accumulate === undefined && meant !== undefined
        ? []
        : [`accumulate=${records / size}`]),
    );
  const own = batchSize ?? 1;
  return {
    less: sizes
      .filter((size) => size < own)
      .toReversed()
      .map(line),
    more: sizes.filter((size) => size > own).map(line),
  };
}

/** What a block leaves for its backward, from most to least; all give the same gradients to the bit. */
export const LEVELS = ['keep', 'products', 'attention', 'recompute', 'offload'] as const;
export type Level = (typeof LEVELS)[number];

/** All blocks on one level, or so many of the decoder on another one above it. */
export function levelOf(
  { memory }: Recipe,
  level: Level,
  above?: { readonly level: Level; readonly blocks: number },
): Change {
  const mixture = above && `memory.keepBlocks={decoder: {${above.level}: ${above.blocks}}}`;
  const plain = memory.keepBlocks === 0 ? [] : ['memory.keepBlocks=0'];
  const policy = memory.policy === level ? [] : [`memory.policy=${level}`];
  return change('none', ...policy, ...(mixture === undefined ? plain : [mixture]));
}

/** Changes of activations that take less memory, each on top of those before it. */
export function shrinksOf(recipe: Recipe, gpus: Gpus): Change[] {
  const { policy, keepBlocks, lossChunk } = recipe.memory;
  const keeps = keepBlocks !== 0 || (policy !== 'recompute' && policy !== 'offload');
  const learns = !Object.values(recipe.train).every(isFrozen);
  return [
    ...(keeps ? [levelOf(recipe, 'recompute')] : []),
    ...batchesOf(recipe, gpus).less,
    ...(lossChunk > SMALL_CHUNK ? [change('rounding', `memory.lossChunk=${SMALL_CHUNK}`)] : []),
    ...(policy !== 'offload' && learns ? [levelOf(recipe, 'offload')] : []),
  ];
}

/** Supervised tokens with logits at a time: fewer make products slow. */
const SMALL_CHUNK = 256;
