/**
 * The forward pass of records, module by module, without dropout: the first module whose output is not finite though its inputs are. In
 * fp32 too, where each segment's weights are widened for its visit alone.
 */

import {
  drive,
  hasWork,
  walk,
  type Batch,
  type Segment,
  type SegmentBase,
  type SegmentInputs,
  type Steps,
} from '../../models/index.js';
import { attention, probe, type ProbedCall } from '../../nn/index.js';
import {
  enableGrad,
  full,
  grad,
  hold,
  isFloating,
  noGrad,
  scope,
  Tensor,
  tensorsIn,
  type DType,
} from '../../torch/index.js';
import type { Scene } from '../../train/index.js';

/** What is wrong first. */
export interface Culprit {
  readonly module: string;
  readonly kind: 'module' | 'attention' | 'loss';
  readonly vision: boolean;
  /** Type of the output. */
  readonly dtype: DType;
  /** Whether whole rows are NaN and others finite, as attention to nothing leaves them. */
  readonly wholeRows: boolean;
  /** Whether the same inputs gave the same again. */
  readonly repeats: boolean;
}

export interface ForwardFacts {
  readonly culprit: Culprit | null;
  /** Largest absolute output of a segment, and which. */
  readonly largest: { readonly segment: string; readonly value: number } | null;
}

type Probing = Pick<Scene, 'model' | 'setup'>;

/** All ranks call it, some without a batch. */
export function probeForward(
  scene: Probing,
  batch: Batch | null,
  { wide = false }: { readonly wide?: boolean } = {},
): Promise<ForwardFacts> {
  return drive(forward(scene, batch, wide));
}

function* forward(
  { model, setup }: Probing,
  batch: Batch | null,
  wide: boolean,
): Steps<ForwardFacts> {
  const found = new Found();
  const { segments, head } = model;
  const { store } = setup;
  using widened = new Widened(model, wide);
  const residency = {
    acquire: (segment: SegmentBase, phase: 'forward' | 'backward') => {
      const pause = store.acquire(segment, phase);
      if (pause !== undefined) return pause.then(() => widened.begin(segment));
      widened.begin(segment);
      return undefined;
    },
    prefetch: (segment: SegmentBase) => store.prefetch(segment),
    release: (segment: SegmentBase, phase: 'forward' | 'backward') => {
      widened.end();
      return store.release(segment, phase);
    },
  };
  using made = hold(() => (batch === null ? null : noGrad(() => model.inputs(batch))));
  const inputs = made.value;
  let boundary: Tensor | null = null;
  let largest: ForwardFacts['largest'] = null;
  try {
    const seen = inputs === null ? null : watched(inputs, found, wide ? batch!.sequences : null);
    const visit = (segment: Segment): void => {
      if (batch === null || seen === null || !hasWork(segment, batch)) return;
      found.segment = segment;
      const before = boundary;
      boundary = noGrad(() => scope(() => segment.forward(before, seen)));
      before?.dispose();
      const value = largestOf(boundary);
      if (largest === null || value > largest.value) largest = { segment: segment.name, value };
    };
    const targets: (readonly [string, object])[] = [
      ...model.namedModules(),
      ...segments.map((segment) => [segment.name, segment] as const),
    ];
    {
      using _ = probe(targets, (call) => found.see(call));
      yield* walk(segments, { phase: 'forward', residency, next: head }, visit);
    }
    yield* walk([head], { phase: 'forward', residency }, () => {
      if (batch !== null && boundary !== null && found.culprit === null) {
        found.culprit = lossFault({ model, setup }, boundary, batch);
      }
    });
    return { culprit: found.culprit, largest };
  } finally {
    (boundary as Tensor | null)?.dispose();
  }
}

/** The first fault, found as calls come back: inner modules before those that they stand in. */
class Found {
  culprit: Culprit | null = null;
  segment: Segment | null = null;

  see({ name, inputs, run }: ProbedCall): unknown {
    const result = run();
    if (this.culprit === null) this.look(name, 'module', inputs, result, run);
    return result;
  }

  look(
    module: string,
    kind: 'module' | 'attention',
    inputs: readonly unknown[],
    result: unknown,
    run: () => unknown,
  ): void {
    const output = tensorsIn([result]).find((each) => isFloating(each.dtype));
    if (output === undefined || isFinite(output)) return;
    const given = inputs.filter((each) => each instanceof Tensor);
    if (given.some((each) => isFloating(each.dtype) && !isFinite(each))) return;
    const again = tensorsIn([noGrad(run)])[0]!;
    this.culprit = {
      ...{ module, kind, dtype: output.dtype },
      vision: this.segment?.part === 'vision' || this.segment?.part === 'projector',
      wholeRows: hasWholeRows(output),
      repeats: sameBits(output, again),
    };
  }
}

/** Inputs whose attention is looked at; in fp32 by a kernel that takes it. */
function watched(
  inputs: SegmentInputs,
  found: Found,
  sequences: Batch['sequences'] | null,
): SegmentInputs {
  const attend: SegmentInputs['attend'] =
    sequences === null
      ? inputs.attend
      : (_layer, q, k, v) => {
          const kernel = q.device.startsWith('cuda') ? 'efficient' : 'cpu';
          return attention(q, k, v, { kernel, causal: true, sequences });
        };
  return {
    ...inputs,
    attend: (layer, q, k, v) => {
      const run = (): Tensor => attend(layer, q, k, v);
      const result = run();
      if (found.culprit === null) {
        const module = `attention of ${found.segment?.name ?? `decoder.${layer}`}`;
        found.look(module, 'attention', [q, k, v], result, run);
      }
      return result;
    },
  };
}

/** The loss and its gradient against a plain composition in fp32: not finite where that is, they are at fault themselves. */
function lossFault({ model, setup }: Probing, hidden: Tensor, batch: Batch): Culprit | null {
  const { head } = model;
  if (!isFinite(hidden)) return null;
  const { positions, targets } = batch.supervised;
  return scope(() => {
    const factor = full([], 1, { dtype: 'float32', device: hidden.device });
    const own = head.losses(hidden.detach(), batch.supervised, {
      ...(setup.chunk === undefined ? {} : { chunk: setup.chunk }),
      gradient: { factor, hidden: true, parameters: [] },
    });
    if (isFinite(own.losses) && (own.inputGradient === null || isFinite(own.inputGradient)))
      return null;
    const rows = noGrad(() => hidden.flatten(0, 1).indexSelect(0, positions));
    const x = rows.detach().requiresGrad_();
    const plain = enableGrad(() => head.logits(x).to('float32').crossEntropyLoss(targets, null, 2));
    const gradient = grad([plain], [x])[0]!;
    if (!isFinite(plain) || !isFinite(gradient)) return null;
    return {
      ...{ module: head.name, kind: 'loss', vision: false, dtype: own.losses.dtype },
      ...{ wholeRows: false, repeats: true },
    };
  });
}

/** Weights in fp32, of the segment that is visited alone. */
class Widened {
  private open: Disposable[] = [];

  constructor(
    private readonly model: Scene['model'],
    private readonly wide: boolean,
  ) {}

  begin(segment: SegmentBase): void {
    if (!this.wide) return;
    for (const [name, own] of segment.parameters()) {
      if (!isFloating(own.dtype) || own.dtype === 'float32') continue;
      const tensor = noGrad(() => own.detach().to('float32')).keep();
      const lent = this.model.lend(name, tensor);
      this.open.push({
        [Symbol.dispose]() {
          lent[Symbol.dispose]();
          tensor.dispose();
        },
      });
    }
  }

  end(): void {
    for (const each of this.open.splice(0)) each[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

/** Whether each row over the last dimension is either finite or not as a whole, and both kinds are there. */
function hasWholeRows(output: Tensor): boolean {
  return noGrad(() =>
    scope(() => {
      const finite = output.detach().isfinite().to('float32').flatten(0, -2);
      const [least, most] = [finite.amin([-1]), finite.amax([-1])];
      const mixed = most.sub(least).amax([]).item() > 0;
      return !mixed && most.amax([]).item() === 1 && least.amin([]).item() === 0;
    }),
  );
}

function sameBits(a: Tensor, b: Tensor): boolean {
  return Buffer.compare(a.detach().toBytes(), b.detach().toBytes()) === 0;
}

export function isFinite(tensor: Tensor): boolean {
  return Number.isFinite(largestOf(tensor));
}

function largestOf(tensor: Tensor): number {
  if (tensor.numel === 0) return 0;
  return noGrad(() => scope(() => tensor.detach().to('float32').abs().amax([]).item()));
}
