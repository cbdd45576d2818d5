/**
 * What a model is made of: a list of segments, each a function of the tensor before it and of the batch.
 *
 * ```
 * pixels -> [vision embeddings] -> [vision block] ... -> [projector] -> [splice] -> [decoder block] ... -> [head and loss]
 *                                                               token ids ---^
 * ```
 *
 * One tensor crosses each boundary; what else a segment needs is made from the batch before the first one runs. So whoever
 * walks the list (trainer, planner, sharding, generation) holds boundaries and nothing else. For a batch without pictures the
 * `visual` segments do not run, and the splice gets `null`.
 */
import type { ModelPart } from '../formats/index.js';
import type {
  AttentionByHand,
  CrossEntropyGradient,
  DropoutMasks,
  GradientPlaces,
  Module,
  Rotation,
} from '../nn/index.js';
import type { Tensor } from '../torch/index.js';
import type { Batch, Supervised } from './batch.js';
import type { PlacedArrangement } from './image-newline.js';
import type { InputFacts } from './sample.js';

/** How queries find their keys and values; generation puts its cache here. */
export type Attend = (layer: number, qBTHD: Tensor, kBTGD: Tensor, vBTGD: Tensor) => Tensor;

/** What segments read of a batch beside the boundary: tensors without gradient. */
export interface SegmentInputs {
  /** Token ids (B, T), int64; any valid id where a picture goes. */
  readonly inputIds: Tensor;
  /** `null` where the batch has no pictures. */
  readonly images: {
    /** (I, 3, S, S) */
    readonly pixelValues: Tensor;
    /** Which of the B · T positions the image features take, in their order. */
    readonly positions: Tensor;
    /** Which features these are, where pictures come in tiles. */
    readonly arrangement?: PlacedArrangement | undefined;
  } | null;
  readonly rotation: Rotation;
  readonly attend: Attend;
}

/** The same for training, where attention has a backward. */
export interface TrainingInputs extends SegmentInputs {
  readonly attention: AttentionByHand;
}

/** A stretch of the model with parameters of its own. */
export interface SegmentBase {
  /** For example `decoder.3`. */
  readonly name: string;
  /** The part of the model that it belongs to. */
  readonly part: ModelPart;
  /** The parameters that it reads, by their names in the model. Tied ones appear in several segments. */
  parameters(): Map<string, Tensor>;
}

export interface Segment extends SegmentBase {
  /** It works on pictures and does not run for a batch without any. */
  readonly visual: boolean;
  /** One of the equal blocks that the part is made of. */
  readonly isBlock: boolean;
  /**
   * @param x what the segment before gave; `null` for the first one, and for the splice where there are no pictures
   * @param masks turn on dropout; its rows are pictures' in a `visual` segment, else tokens
   */
  forward(x: Tensor | null, inputs: SegmentInputs, masks?: DropoutMasks): Tensor;
  /** The same in fewer calls, where neither it nor what is before it trains. */
  frozen?(x: Tensor | null, inputs: SegmentInputs): Tensor;
  /** Lays weights that can be multiplied by as one side by side in memory; they stay the parameters that they are. */
  laySideBySide?(): void;
  /** The same with a backward written by hand; without it, autograd differentiates what `forward` records. */
  readonly byHand?: ByHand;
}

/**
 * What a segment with a backward by hand keeps for it beside its input:
 *
 * - `keep`: all that saves time;
 * - `products`: the results of matrix products and of attention, not those of norms, which are cheap to compute again;
 * - `attention`: the result of attention and the sum after it, so that neither it nor the products around it are repeated;
 * - `recompute`: nothing.
 */
export type Level = 'keep' | 'products' | 'attention' | 'recompute';

/** Tensors that a segment kept, however nested; whoever holds them frees them. */
export type Kept = object;

/** What a segment with a backward by hand is given beside its input, forward and backward the same. */
export interface ByHandCall {
  readonly x: Tensor;
  readonly inputs: TrainingInputs;
  readonly masks?: DropoutMasks | undefined;
  /**
   * Positions whose results are read (L), int64, each once: the result has these alone (1, L, C), and what only the others need is not
   * computed. @default all
   */
  readonly wanted?: Tensor | undefined;
}

export interface ForwardCall extends ByHandCall {
  readonly level: Level;
}

/** Runs outside of recording, with the parameters in place. */
export interface ByHand {
  forward(call: ForwardCall): { readonly output: Tensor; readonly kept: Kept };
  /** May overwrite and free what was kept, and leaves `x` and `upstream` as they are. */
  backward(call: BackwardCall): SegmentGradient;
  /** Bytes that a level keeps of each position beside the input, where all are wanted. */
  keptBytes(level: Level): number;
}

export interface BackwardCall extends ByHandCall {
  readonly kept: Kept;
  /** Gradient of the result. */
  readonly upstream: Tensor;
  /** Whether anything below wants a gradient. */
  readonly wantsInput: boolean;
  /** Where gradients of parameters are summed. @default nowhere */
  readonly places?: GradientPlaces | undefined;
}

export interface SegmentGradient {
  readonly input: Tensor | null;
  /** Of the parameters that train, but for those that were written to their places. */
  readonly parameters: ReadonlyMap<Tensor, Tensor>;
}

export interface HeadOptions {
  /** Rows of logits that are held at once. @default 2048 */
  chunk?: number;
  /** What to differentiate; without it only losses are computed. */
  gradient?: CrossEntropyGradient;
  /** Whether `x` has the supervised rows alone. @default false */
  selected?: boolean;
}

export interface HeadResult {
  /** Loss of each supervised position (N), fp32; what is differentiated is their sum. */
  readonly losses: Tensor;
  /** Gradient of `x`, where asked for. */
  readonly inputGradient: Tensor | null;
  /** In the order of the parameters asked for; `null` for one that was not used. */
  readonly parameterGradients: (Tensor | null)[];
}

/** The last segment: final norm, logits, loss. Its backward runs chunk by chunk within its forward. */
export interface Head extends SegmentBase {
  /** Logits of rows (n, C) of the last decoder block's result: (n, V). */
  logits(xNC: Tensor): Tensor;
  /** Losses of the supervised rows of `x` (B, T, C) alone. */
  losses(xBTC: Tensor, supervised: Supervised, options?: HeadOptions): HeadResult;
}

/** A model as a list of segments. */
export interface SegmentedModel extends Module {
  readonly segments: readonly Segment[];
  readonly head: Head;
  readonly input: InputFacts;
  /** Parameters that are another one, by name. */
  readonly tied: ReadonlyMap<string, string>;
  /** What the segments read of a batch. @throws DataError `E_SLIDING_WINDOW` for sequences over the model's window. */
  inputs(batch: Batch): TrainingInputs;
}

/** Lays weights that training multiplies by as one side by side in memory; no parameter becomes another. */
export function laySideBySide({ segments }: Pick<SegmentedModel, 'segments'>): void {
  for (const segment of segments) segment.laySideBySide?.();
}
