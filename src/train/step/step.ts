/**
 * The step program: one micro-batch forward through the model's segments and backward again, one segment at a time.
 *
 * There is no global tape. Between segments only the boundary lives: a tensor detached from its history, where the next
 * segment's graph begins. Backward calls `autograd.grad` on one segment's graph with the gradient of its result, which gives the
 * gradients of its parameters, handed to the store at once, and of its input, handed to the segment below.
 *
 * Everything starts from the *sum* of token losses times `lossFactor` (a power of two, times the loss scale of fp16): division by
 * the number of supervised tokens of the whole effective batch comes once, before the optimizer. Nothing is read back from the
 * device. The order of calls to the store depends on the recipe alone, never on the batch: an empty micro-batch makes them too.
 */

import { DropoutMasks } from '../../nn/index.js';
import {
  hasWork,
  walk,
  type Batch,
  type Segment,
  type SegmentBase,
  type SegmentedModel,
  type SegmentInputs,
  type Steps,
} from '../../models/index.js';
import {
  enableGrad,
  grad,
  hold,
  noGrad,
  scope,
  type Holding,
  type Tensor,
} from '../../torch/index.js';
import { HostCopy } from './host-copy.js';
import type { MemoryPolicy } from './memory-policy.js';
import type { ParameterStore, SegmentGradients } from './parameter-store.js';
import type { Randomness } from './randomness.js';

export interface Step {
  readonly model: SegmentedModel;
  readonly store: ParameterStore;
  /** One for each segment. */
  readonly policies: readonly MemoryPolicy[];
  /** What the sum of the losses is multiplied by; a device scalar, fp32. */
  readonly lossFactor: Tensor;
  readonly randomness: Randomness;
  /** Rows of logits that are held at once. */
  readonly chunk?: number;
}

/**
 * Runs one micro-batch of an update, or the calls to the store of an empty one (`null`). Yields after each segment.
 *
 * @returns the sum of its token losses, a device scalar in fp32, which the caller owns; `null` for an empty one
 */
export function* runMicroBatch(
  step: Step,
  batch: Batch | null,
  update: number,
): Steps<Tensor | null> {
  const { store } = step;
  const { segments, head } = step.model;
  const trainable = segments.map(trainableOf);
  // By the recipe: from this segment on gradients flow.
  const first = trainable.findIndex(({ size }) => size > 0);
  const flowing = first === -1 ? [] : segments.slice(first).reverse();
  using pass = new Pass(step, trainable, batch, update);

  const forward = { phase: 'forward', residency: store } as const;
  yield* walk(segments, { ...forward, next: head }, (segment, i) => pass.forward(segment, i));
  yield* walk([head], { ...forward, next: flowing[0] }, () => store.accept(head, pass.head()));
  const backward = { phase: 'backward', residency: store } as const;
  yield* walk(flowing, backward, (segment, i) =>
    store.accept(segment, pass.backward(segment, segments.length - 1 - i)),
  );
  return pass.takeLoss();
}

/** What a segment left behind for its backward. */
type Held =
  | { readonly kind: 'graph'; readonly input: Tensor | null; readonly output: Tensor }
  | { readonly kind: 'input'; readonly input: Tensor | null }
  | { readonly kind: 'host'; readonly input: HostCopy; readonly wanted: boolean };

/** One micro-batch on its way: the boundary, what segments left behind, the gradient that comes back. */
class Pass {
  private readonly inputs: Holding<SegmentInputs> | null;
  private readonly held: (Held | null)[];
  private readonly boundary = new Boundary();
  /** Whether the boundary depends on a trainable parameter. */
  private flowing = false;
  private gradient: Tensor | null = null;
  private loss: Tensor | null = null;

  constructor(
    private readonly step: Step,
    /** Of each segment, by name. */
    private readonly trainable: readonly ReadonlyMap<string, Tensor>[],
    private readonly batch: Batch | null,
    private readonly update: number,
  ) {
    const { model } = step;
    this.inputs = batch && hold(() => noGrad(() => model.inputs(batch)));
    this.held = model.segments.map(() => null);
  }

  /** Runs a segment, keeping of it what its policy says. */
  forward(segment: Segment, i: number): void {
    const { boundary, batch } = this;
    if (batch === null || !hasWork(segment, batch)) return;
    const wanted = this.flowing; // a gradient for the segment's input
    this.flowing ||= this.trainable[i]!.size > 0;
    if (!this.flowing) {
      boundary.own(noGrad(() => this.run(segment, boundary.tensor)));
      return;
    }
    // Detached, so that the graph below does not live on in what this segment holds.
    const input = boundary.tensor?.detach().requiresGrad_(wanted) ?? null;
    const policy = this.step.policies[i]!;
    if (policy === 'keep') {
      const output = enableGrad(() => this.run(segment, input));
      this.held[i] = { kind: 'graph', input, output };
      boundary.borrow(output);
      return;
    }
    boundary.own(noGrad(() => this.run(segment, input)));
    if (policy === 'offload' && input !== null) {
      this.held[i] = { kind: 'host', input: new HostCopy(input), wanted };
      input.dispose();
    } else {
      this.held[i] = { kind: 'input', input };
    }
  }

  /** The losses, the gradient of what came in, and those of the head's parameters. */
  head(): SegmentGradients {
    const { batch, boundary, flowing, step } = this;
    const { head } = step.model;
    const trainable = trainableOf(head);
    if (batch === null) return named(trainable, []);
    this.fetchBelow(this.held.length);
    const parameters = [...trainable.values()];
    const result = scope(() => {
      const { losses, ...gradients } = head.losses(boundary.tensor!.detach(), batch.supervised, {
        ...(step.chunk === undefined ? {} : { chunk: step.chunk }),
        ...(flowing || parameters.length > 0
          ? { gradient: { factor: step.lossFactor, hidden: flowing, parameters } }
          : {}),
      });
      return { loss: losses.sum(null), ...gradients };
    });
    this.loss = result.loss;
    this.gradient = result.inputGradient;
    boundary.dispose();
    return named(trainable, result.parameterGradients);
  }

  /** The gradients of a segment's parameters; that of its input is kept for the segment below. */
  backward(segment: Segment, i: number): SegmentGradients {
    const trainable = this.trainable[i]!;
    const behind = this.held[i]!;
    const upstream = this.gradient;
    if (behind === null || upstream === null) return named(trainable, []);
    const result = scope(() => {
      const { input, output } = this.graphOf(behind, segment, i);
      const leaves = input?.requiresGrad ? [input] : [];
      const gradients = grad([output], [...leaves, ...trainable.values()], [upstream]);
      return { below: leaves.length > 0 ? gradients.shift()! : null, own: gradients };
    });
    discard(behind);
    this.held[i] = null;
    upstream.dispose();
    this.gradient = result.below;
    return named(trainable, result.own);
  }

  /** The segment's graph: the kept one, or computed again from its input with the same random numbers. */
  private graphOf(
    held: Held,
    segment: Segment,
    i: number,
  ): { input: Tensor | null; output: Tensor } {
    const input = held.kind === 'host' ? held.input.take().requiresGrad_(held.wanted) : held.input;
    this.fetchBelow(i);
    if (held.kind === 'graph') return held;
    return { input, output: enableGrad(() => this.run(segment, input)) };
  }

  /** Begins to bring back the boundary that backward will want next, while this segment computes. */
  private fetchBelow(i: number): void {
    const next = this.held.slice(0, i).findLast((held) => held !== null);
    if (next?.kind === 'host') next.input.fetch();
  }

  private run(segment: Segment, x: Tensor | null): Tensor {
    const key = this.step.randomness.ofMasks(this.update, segment.name);
    const { places } = segment.visual ? this.batch!.images! : this.batch!;
    return scope(() => segment.forward(x, this.inputs!.value, new DropoutMasks(key, places)));
  }

  takeLoss(): Tensor | null {
    const { loss } = this;
    this.loss = null;
    return loss;
  }

  [Symbol.dispose](): void {
    this.loss?.dispose();
    this.gradient?.dispose();
    this.boundary.dispose();
    for (const behind of this.held) if (behind !== null) discard(behind);
    this.inputs?.[Symbol.dispose]();
  }
}

/** Parameters of a segment that are to get a gradient. */
export function trainableOf(segment: SegmentBase): Map<string, Tensor> {
  return new Map([...segment.parameters()].filter(([, parameter]) => parameter.requiresGrad));
}

/** Gradients by the names of their parameters; `null` where there are none. */
function named(
  parameters: ReadonlyMap<string, Tensor>,
  gradients: readonly (Tensor | null)[],
): SegmentGradients {
  return new Map([...parameters.keys()].map((name, i) => [name, gradients[i] ?? null]));
}

function discard(held: Held): void {
  held.input?.dispose();
  if (held.kind === 'graph') held.output.dispose();
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
