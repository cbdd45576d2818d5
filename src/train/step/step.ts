/**
 * The step program: one micro-batch forward through the model's segments and backward again, one segment at a time.
 *
 * There is no global tape. Between segments only the boundary lives: a tensor detached from its history. A segment with a backward
 * by hand (decoder blocks) keeps what its policy says; of another one `autograd.grad` differentiates the graph, recorded in its
 * forward or again in its backward. Both give the gradients of its parameters, handed to the store at once, and of its input, handed to
 * the segment below.
 *
 * Everything starts from the *sum* of token losses times `lossFactor` (a power of two, times the loss scale of fp16): division by
 * the number of supervised tokens of the whole effective batch comes once, before the optimizer. Nothing is read back from the
 * device. The order of calls to the store depends on the recipe alone, never on the batch: an empty micro-batch makes them too.
 */

import { DropoutMasks, type GradientPlaces } from '../../nn/index.js';
import {
  hasWork,
  walk,
  type Batch,
  type ByHandCall,
  type Kept,
  type Level,
  type Residency,
  type Segment,
  type SegmentBase,
  type SegmentedModel,
  type Steps,
  type TrainingInputs,
} from '../../models/index.js';
import {
  enableGrad,
  grad,
  hold,
  noGrad,
  scope,
  tensorsIn,
  type Holding,
  type Tensor,
} from '../../torch/index.js';
import { HostCopy } from './host-copy.js';
import type { MemoryPolicy } from './memory-policy.js';
import type { ParameterStore, SegmentGradients } from './parameter-store.js';
import type { Randomness } from './randomness.js';
import { ENDS, type Shortage } from './shortage.js';

/** What the step program needs of a store. */
export type StepStore = Residency & Pick<ParameterStore, 'place' | 'accept'>;

export interface Step {
  readonly model: SegmentedModel;
  /** Brings parameters and takes gradients. */
  readonly store: StepStore;
  /** One for each segment. */
  readonly policies: readonly MemoryPolicy[];
  /** What the sum of the losses is multiplied by; a device scalar, fp32. */
  readonly lossFactor: Tensor;
  readonly randomness: Randomness;
  /** Rows of logits that are held at once. */
  readonly chunk?: number;
  /** Where it is known already, once for all micro-batches. @default asked of the model */
  readonly trainable?: TrainableParameters;
  /** What becomes of an update that memory does not suffice for. @default it ends there */
  readonly shortage?: Shortage | undefined;
}

/** Parameters that are to get a gradient, by name: of each segment, and last of the head. */
export type TrainableParameters = readonly ReadonlyMap<string, Tensor>[];

/** The share of rows up to which it pays to go on with these alone. */
const MOST_WANTED = 7 / 8;

/**
 * Runs one micro-batch of an update, or the calls to the store of an empty one (`null`). Yields after each segment.
 *
 * @returns the sum of its token losses, a device scalar in fp32, which the caller owns; `null` for an empty one, or one that was dropped
 */
export function* runMicroBatch(
  step: Step,
  batch: Batch | null,
  update: number,
): Steps<Tensor | null> {
  const { store } = step;
  const { segments, head } = step.model;
  const trainable = step.trainable ?? trainableIn(step.model);
  // By the recipe: from this segment on gradients flow.
  const first = segments.findIndex((_, i) => trainable[i]!.size > 0);
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

/** What a segment left behind for its backward: its input, perhaps on the host, and its graph or what it keeps by hand. */
interface Held {
  readonly input: Tensor | HostCopy | null;
  readonly output?: Tensor;
  readonly kept?: Kept;
  /** Whether anything wants a gradient of the input. */
  readonly wanted: boolean;
}

/** Of a segment's input, and of its parameters in their order. */
interface Gradients {
  readonly below: Tensor | null;
  readonly own: readonly (Tensor | null)[];
}

/** One micro-batch on its way: the boundary, what segments left behind, the gradient that comes back. */
class Pass {
  private inputs: Holding<TrainingInputs> | null = null;
  private readonly held: (Held | null)[];
  private readonly boundary = new Boundary();
  private readonly shortage: Shortage;
  /** Whether the boundary depends on a trainable parameter. */
  private flowing = false;
  /** Whether the boundary has the supervised rows alone. */
  private selected = false;
  private gradient: Tensor | null = null;
  private loss: Tensor | null = null;

  constructor(
    private readonly step: Step,
    private readonly trainable: TrainableParameters,
    private batch: Batch | null,
    private readonly update: number,
  ) {
    const { model, shortage = ENDS } = step;
    this.shortage = shortage;
    this.held = model.segments.map(() => null);
    shortage.run(this);
    if (batch === null) return;
    this.inputs = this.shortage.try(() => hold(() => noGrad(() => model.inputs(batch))), null);
  }

  /** Runs a segment, keeping of it what its policy says. */
  forward(segment: Segment, i: number): void {
    const { batch } = this;
    if (batch === null || !hasWork(segment, batch)) return;
    this.shortage.try(() => this.runForward(segment, i), undefined);
  }

  private runForward(segment: Segment, i: number): void {
    const { boundary } = this;
    const wanted = this.flowing; // a gradient for the segment's input
    this.flowing ||= this.trainable[i]!.size > 0;
    if (!this.flowing) {
      boundary.own(noGrad(() => this.runFrozen(segment, boundary.tensor)));
      return;
    }
    // Detached, so that the graph below does not live on in what this segment holds.
    const input = boundary.tensor?.detach().requiresGrad_(wanted) ?? null;
    this.held[i] = { input, wanted }; // to be freed should the segment not come to its end
    const policy = this.step.policies[i]!;
    const level = policy === 'offload' ? 'recompute' : policy;
    if (segment.byHand !== undefined) {
      const { output, kept } = noGrad(() => this.runByHand(segment, input!, level));
      boundary.own(output);
      this.selected = this.wantedOf(segment) !== undefined;
      this.held[i] = { ...this.place(input, policy), kept, wanted };
    } else if (level === 'keep') {
      const output = enableGrad(() => this.run(segment, input));
      this.held[i] = { input, output, wanted };
      boundary.borrow(output);
    } else {
      boundary.own(noGrad(() => this.run(segment, input)));
      this.held[i] = { ...this.place(input, policy), wanted };
    }
  }

  /** An input, to where its policy wants it. */
  private place(input: Tensor | null, policy: MemoryPolicy): Pick<Held, 'input'> {
    if (policy !== 'offload' || input === null) return { input };
    const copy = new HostCopy(input);
    input.dispose();
    return { input: copy };
  }

  /** The losses, the gradient of what came in, and those of the head's parameters. */
  head(): SegmentGradients {
    const { batch } = this;
    const trainable = this.trainable.at(-1)!;
    const own = batch === null ? [] : this.shortage.try(() => this.runHead(batch), []);
    return named(trainable, own);
  }

  private runHead(batch: Batch): readonly (Tensor | null)[] {
    const { boundary, flowing, step } = this;
    const { head } = step.model;
    const trainable = this.trainable.at(-1)!;
    this.fetchBelow(this.held.length);
    const parameters = [...trainable.values()];
    const result = scope(() => {
      const { losses, ...gradients } = head.losses(boundary.tensor!.detach(), batch.supervised, {
        selected: this.selected,
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
    return result.parameterGradients;
  }

  /** The gradients of a segment's parameters; that of its input is kept for the segment below. */
  backward(segment: Segment, i: number): SegmentGradients {
    const trainable = this.trainable[i]!;
    const behind = this.held[i]!;
    const upstream = this.gradient;
    if (behind === null || upstream === null) return named(trainable, []);
    const run = () => this.runBackward(segment, i, behind, upstream);
    return named(trainable, this.shortage.try(run, []));
  }

  private runBackward(
    segment: Segment,
    i: number,
    behind: Held,
    upstream: Tensor,
  ): readonly (Tensor | null)[] {
    const trainable = this.trainable[i]!;
    const input = behind.input instanceof HostCopy ? behind.input.take() : behind.input;
    this.fetchBelow(i);
    const result =
      segment.byHand === undefined
        ? scope(() => this.differentiate(segment, trainable, behind, input, upstream))
        : noGrad(() => this.backwardByHand(segment, trainable, behind, input!, upstream));
    discard(behind);
    this.held[i] = null;
    upstream.dispose();
    this.gradient = result.below;
    return result.own;
  }

  /** By autograd, from the kept graph, or one recorded again from the input with the same random numbers. */
  private differentiate(
    segment: Segment,
    trainable: ReadonlyMap<string, Tensor>,
    { output, wanted }: Held,
    input: Tensor | null,
    upstream: Tensor,
  ): Gradients {
    input?.requiresGrad_(wanted);
    const result = output ?? enableGrad(() => this.run(segment, input));
    const leaves = input !== null && wanted ? [input] : [];
    const gradients = grad([result], [...leaves, ...trainable.values()], [upstream]);
    return { below: leaves.length > 0 ? gradients.shift()! : null, own: gradients };
  }

  private backwardByHand(
    segment: Segment,
    trainable: ReadonlyMap<string, Tensor>,
    { kept, wanted: wantsInput }: Held,
    x: Tensor,
    upstream: Tensor,
  ): Gradients {
    const places = this.places(segment, trainable);
    const call = { ...this.givenByHand(segment, x), kept: kept!, upstream, wantsInput, places };
    const { input, parameters } = segment.byHand!.backward(call);
    return {
      below: input,
      own: [...trainable.values()].map((each) => parameters.get(each) ?? null),
    };
  }

  /** The store's places for gradients of a segment's parameters. */
  private places(
    segment: Segment,
    trainable: ReadonlyMap<string, Tensor>,
  ): GradientPlaces | undefined {
    const { store } = this.step;
    if (store.place === undefined) return undefined;
    const own = [...trainable];
    const nameOf = (parameter: Tensor): string => own.find(([, each]) => each === parameter)![0];
    return (parameters) =>
      store.place!(segment, new Map(parameters.map((each) => [nameOf(each), each])));
  }

  /** Begins to bring back the boundary that backward will want next, while this segment computes. */
  private fetchBelow(i: number): void {
    const next = this.held.slice(0, i).findLast((held) => held !== null);
    if (next?.input instanceof HostCopy) next.input.fetch();
  }

  private run(segment: Segment, x: Tensor | null): Tensor {
    const { inputs, masks } = this.given(segment);
    return scope(() => segment.forward(x, inputs, masks));
  }

  private runFrozen(segment: Segment, x: Tensor | null): Tensor {
    if (segment.frozen === undefined) return this.run(segment, x);
    return scope(() => segment.frozen!(x, this.inputs!.value));
  }

  private runByHand(segment: Segment, x: Tensor, level: Level): { output: Tensor; kept: Kept } {
    return segment.byHand!.forward({ ...this.givenByHand(segment, x), level });
  }

  private givenByHand(segment: Segment, x: Tensor): ByHandCall {
    return { x, ...this.given(segment), wanted: this.wantedOf(segment) };
  }

  /** Of the last segment the loss reads supervised rows alone; to leave out the others pays unless they are few. */
  private wantedOf(segment: Segment): Tensor | undefined {
    const { counts, supervised } = this.batch!;
    const pays = counts.supervised > 0 && counts.supervised <= MOST_WANTED * counts.tokens;
    return pays && segment === this.step.model.segments.at(-1) ? supervised.positions : undefined;
  }

  /** What a segment reads beside the boundary, the same each time that it runs. */
  private given(segment: Segment): { inputs: TrainingInputs; masks: DropoutMasks } {
    const key = this.step.randomness.ofMasks(this.update, segment.name);
    const { places } = segment.visual ? this.batch!.images! : this.batch!;
    return { inputs: this.inputs!.value, masks: new DropoutMasks(key, places) };
  }

  takeLoss(): Tensor | null {
    const { loss } = this;
    this.loss = null;
    return loss;
  }

  /** Frees what is there; from then on it is as an empty one. */
  drop(): void {
    this.takeLoss()?.dispose();
    this.gradient?.dispose();
    this.gradient = null;
    this.boundary.dispose();
    for (const behind of this.held) if (behind !== null) discard(behind);
    this.held.fill(null);
    this.inputs?.[Symbol.dispose]();
    this.inputs = null;
    this.batch = null;
  }

  [Symbol.dispose](): void {
    this.drop();
    this.shortage.run(null);
  }
}

/** Parameters of a segment that are to get a gradient. */
export function trainableOf(segment: SegmentBase): Map<string, Tensor> {
  return new Map([...segment.parameters()].filter(([, parameter]) => parameter.requiresGrad));
}

export function trainableIn({ segments, head }: Step['model']): TrainableParameters {
  return [...segments, head].map(trainableOf);
}

/** Gradients by the names of their parameters; `null` where there are none. */
function named(
  parameters: ReadonlyMap<string, Tensor>,
  gradients: readonly (Tensor | null)[],
): SegmentGradients {
  return new Map([...parameters.keys()].map((name, i) => [name, gradients[i] ?? null]));
}

function discard({ input, output, kept }: Held): void {
  for (const tensor of tensorsIn(kept)) tensor.dispose();
  input?.dispose();
  output?.dispose();
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
