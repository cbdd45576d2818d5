/**
 * The step program: one micro-batch forward through the model's segments and backward again, one segment at a time.
 *
 * There is no global tape. Between segments only the boundary lives: a tensor detached from its history, where the next
 * segment's graph begins. Backward calls `autograd.grad` on one segment's graph with the gradient of its result, which gives the
 * gradients of its parameters, handed to the store at once, and of its input, handed to the segment below.
 *
 * Everything starts from the *sum* of token losses times `seed` (a power of two, times the loss scale of fp16): division by the
 * number of supervised tokens of the whole effective batch comes once, before the optimizer. Nothing is read back from the
 * device. The order of calls to the store depends on the recipe alone, never on the batch.
 *
 * A generator: it yields after each segment, so that whoever drives it can let other work run.
 */

import type {
  Batch,
  Segment,
  SegmentBase,
  SegmentedModel,
  SegmentInputs,
} from '../../models/index.js';
import {
  enableGrad,
  grad,
  hold,
  noGrad,
  scope,
  type Generator,
  type Tensor,
} from '../../torch/index.js';
import type { MemoryPolicy } from './memory-policy.js';
import { HostCopy } from './host-copy.js';
import type { ParameterStore } from './parameter-store.js';
import type { RandomPlace, Randomness } from './randomness.js';

export interface Step {
  readonly model: SegmentedModel;
  readonly store: ParameterStore;
  /** One for each segment. */
  readonly policies: readonly MemoryPolicy[];
  /** Factor of the sum of the losses; a device scalar, fp32. */
  readonly seed: Tensor;
  readonly randomness: Randomness;
  /** Rows of logits that are held at once. */
  readonly chunk?: number;
}

/** A program that yields after each segment. */
export type Steps<T> = globalThis.Generator<void, T, void>;

/** What a segment left behind for its backward. */
type Held =
  | { readonly kind: 'graph'; readonly input: Tensor | null; readonly output: Tensor }
  | { readonly kind: 'input'; readonly input: Tensor | null }
  | { readonly kind: 'host'; readonly input: HostCopy; readonly wanted: boolean };

/** Runs one micro-batch. @returns the sum of its token losses, a device scalar in fp32; the caller owns it. */
export function* runMicroBatch(step: Step, batch: Batch, place: RandomPlace): Steps<Tensor> {
  const { model, store, policies, randomness } = step;
  const { segments, head } = model;
  const random = (index: number): Generator => randomness.of(index, place);
  const runs = (segment: Segment): boolean => !segment.visual || batch.images !== null;

  const trainable = segments.map(trainableOf);
  // By the recipe: from this segment on gradients flow.
  const first = trainable.findIndex(({ size }) => size > 0);
  const headParameters = trainableOf(head);

  using inputs = hold(() => noGrad(() => model.inputs(batch)));
  const held = new Array<Held | null>(segments.length).fill(null);
  const boundary = new Boundary();
  let gradient: Tensor | null = null;
  let loss: Tensor | null = null;
  let finished = false;
  try {
    // --- forward, keeping of each segment what its policy says
    let flowing = false; // whether the boundary depends on a trainable parameter
    for (const [i, segment] of segments.entries()) {
      store.acquire(segment, 'forward');
      store.prefetch(segments[i + 1] ?? head);
      if (runs(segment)) {
        const wanted = flowing; // a gradient for the segment's input
        flowing ||= trainable[i]!.size > 0;
        if (!flowing) {
          boundary.own(withoutGraph(segment, boundary.tensor, inputs.value, random(i)));
        } else {
          // Detached, so that the graph below does not live on in what this segment holds.
          const input = boundary.tensor?.detach().requiresGrad_(wanted) ?? null;
          if (policies[i] === 'keep') {
            const output = withGraph(segment, input, inputs.value, random(i));
            held[i] = { kind: 'graph', input, output };
            boundary.borrow(output);
          } else {
            boundary.own(withoutGraph(segment, input, inputs.value, random(i)));
            held[i] =
              policies[i] === 'offload' && input !== null
                ? { kind: 'host', input: new HostCopy(input), wanted }
                : { kind: 'input', input };
            if (held[i].kind === 'host') input!.dispose();
          }
        }
      }
      store.release(segment);
      yield;
    }

    // --- head: the losses, and the gradient of what came in
    store.acquire(head, 'forward');
    const parameters = [...headParameters.values()];
    const result = scope(() => {
      const { losses, ...gradients } = head.losses(boundary.tensor!.detach(), batch.supervised, {
        ...(step.chunk === undefined ? {} : { chunk: step.chunk }),
        ...(flowing || parameters.length > 0
          ? { gradient: { seed: step.seed, hidden: flowing, parameters } }
          : {}),
      });
      return { loss: losses.sum(null), ...gradients };
    });
    loss = result.loss;
    gradient = result.inputGradient;
    boundary.dispose();
    give(store, head, headParameters, result.parameterGradients);
    store.release(head);
    yield;

    // --- backward, one segment's graph at a time
    for (let i = segments.length - 1; first !== -1 && i >= first; i--) {
      const segment = segments[i]!;
      const behind = held[i]!;
      store.acquire(segment, 'backward');
      if (i > first) store.prefetch(segments[i - 1]!);
      let own: readonly (Tensor | null)[] = [];
      if (behind !== null && gradient !== null) {
        const upstream = gradient;
        const result = scope(() => {
          const { input, output } = graphOf(behind, segment, inputs.value, random(i));
          const leaves = input?.requiresGrad ? [input] : [];
          const gradients = grad([output], [...leaves, ...trainable[i]!.values()], [upstream]);
          return { below: leaves.length > 0 ? gradients.shift()! : null, own: gradients };
        });
        discard(behind);
        held[i] = null;
        upstream.dispose();
        gradient = result.below;
        own = result.own;
      }
      give(store, segment, trainable[i]!, own);
      store.release(segment);
      yield;
    }
    finished = true;
    return loss;
  } finally {
    if (!finished) loss?.dispose();
    gradient?.dispose();
    boundary.dispose();
    for (const behind of held) if (behind !== null) discard(behind);
  }
}

/** Parameters of a segment that are to get a gradient. */
export function trainableOf(segment: SegmentBase): Map<string, Tensor> {
  return new Map([...segment.parameters()].filter(([, parameter]) => parameter.requiresGrad));
}

/** The tensor between two segments: owned here, or borrowed from the graph that a segment keeps. */
class Boundary {
  tensor: Tensor | null = null;
  private owned = false;

  own(tensor: Tensor): void {
    this.dispose();
    this.tensor = tensor;
    this.owned = true;
  }

  borrow(tensor: Tensor): void {
    this.dispose();
    this.tensor = tensor;
    this.owned = false;
  }

  dispose(): void {
    if (this.owned) this.tensor?.dispose();
    this.tensor = null;
  }
}

function withoutGraph(
  segment: Segment,
  x: Tensor | null,
  inputs: SegmentInputs,
  random: Generator,
): Tensor {
  return noGrad(() => scope(() => segment.forward(x, inputs, random)));
}

function withGraph(
  segment: Segment,
  x: Tensor | null,
  inputs: SegmentInputs,
  random: Generator,
): Tensor {
  return enableGrad(() => scope(() => segment.forward(x, inputs, random)));
}

/** The segment's graph: the kept one, or computed again from its input with the same random numbers. */
function graphOf(
  held: Held,
  segment: Segment,
  inputs: SegmentInputs,
  random: Generator,
): { input: Tensor | null; output: Tensor } {
  if (held.kind === 'graph') return held;
  const input =
    held.kind === 'input' ? held.input : held.input.restore().requiresGrad_(held.wanted);
  return { input, output: withGraph(segment, input, inputs, random) };
}

function discard(held: Held): void {
  held.input?.dispose();
  if (held.kind === 'graph') held.output.dispose();
}

/** Hands a segment's gradients to the store, which owns them from then on; `null` where there are none. */
function give(
  store: ParameterStore,
  segment: SegmentBase,
  parameters: ReadonlyMap<string, Tensor>,
  gradients: readonly (Tensor | null)[],
): void {
  store.accept(
    segment,
    new Map([...parameters.keys()].map((name, i) => [name, gradients[i] ?? null])),
  );
}
