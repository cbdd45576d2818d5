/**
 * AdamW (Loshchilov and Hutter 2019) by our own kernels or libtorch's fused one, gated on the device.
 *
 *     m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
 *     w = w (1 - lr decay) - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
 *
 * Where `foundInf` is 1, weights, moments and the step count t stay as they were. A parameter without a gradient in an update
 * is left alone altogether: no decay, no step.
 *
 * Moments in 8 bits are bitsandbytes' (Dettmers et al. 2022): codes of the dynamic type, and of every 256 values the largest
 * magnitude. The update is that of the moments before they are rounded.
 */

import { UsageError } from '../base/errors.js';
import {
  _foreachAdd_,
  _foreachCopy_,
  _fusedAdamw_,
  adamw_,
  adamwInt8_,
  noGrad,
  scope,
  zeros,
  type DType,
  type CounterKey,
  type Tensor,
} from '../torch/index.js';
import { int8Blocks, scalesOf } from './adamw-state.js';

/** Parameters that share a learning rate and a decay. */
export interface ParameterGroup {
  readonly name: string;
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** Where parameters are contiguous pieces of whole ones: the first element of each, by name. @default 0 */
  readonly from?: ReadonlyMap<string, number>;
  /** Names of those whose moments stay fp32 where the others' are in 8 bits. @default none */
  readonly notInt8?: ReadonlySet<string>;
  /** Full learning rate, before the schedule. */
  readonly learningRate: number;
  /** @default 0 */
  readonly weightDecay?: number;
}

/**
 * What is kept beside 16-bit parameters:
 * - `float32`: a master copy, which the parameter is rounded from after each update.
 * - `stochastic`: nothing; the update is computed in fp32 and rounded at random.
 * - `none`: nothing; the update is computed and rounded in the parameter's own dtype, as the peers of `bench/train.ts` do it. Recipes do
 *   not offer it: updates below half the spacing of bf16 are lost.
 */
export type MasterWeights = 'float32' | 'stochastic' | 'none';

export interface AdamWOptions {
  /** @default [0.9, 0.999] */
  betas?: readonly [number, number];
  /** @default 1e-8 */
  eps?: number;
  /** @default 'float32' */
  master?: MasterWeights;
  /** Type of the moments. @default 'float32' */
  states?: StateType;
}

/** What moments are kept in; `int8`: as bitsandbytes' 8-bit optimizers keep them. */
export type StateType = DType | 'int8';

/** One update. */
export interface AdamWUpdate {
  /** Accumulated sums by parameter name; parameters that are missing here are left alone. */
  readonly gradients: ReadonlyMap<string, Tensor>;
  /** What the schedule multiplies learning rates by. */
  readonly scheduleFactor: number;
  /** What the sums are divided by; a device scalar, fp32. */
  readonly divisor: Tensor;
  /** 1 to leave everything as it is; a device scalar, fp32. `null`: it is known to be finite. */
  readonly foundInf: Tensor | null;
  /** Key of the stochastic rounding of a tensor, by its name in `state`, or the parameter's own. */
  readonly rounding?: (name: string) => CounterKey;
}

interface ParameterState {
  readonly name: string;
  /** Its first element in the whole parameter. */
  readonly from: number;
  readonly parameter: Tensor;
  /** fp32 copy; the parameter itself where there is none. */
  readonly master: Tensor;
  /** In 8 bits: codes. */
  readonly moment: Tensor;
  readonly square: Tensor;
  /** Scales of the codes (blocks), fp32. */
  readonly absmax: { readonly moment: Tensor; readonly square: Tensor } | null;
  /** Updates that were applied; fp32. */
  readonly step: Tensor;
}

/** A parameter in an update, and the sum of its gradients. */
interface Entry {
  readonly state: ParameterState;
  readonly sum: Tensor;
}

type Settings = Parameters<typeof _fusedAdamw_>[6] & { readonly lr: number };

export class AdamW {
  private readonly states = new Map<string, ParameterState>();
  private readonly betas: readonly [number, number];
  private readonly eps: number;
  private readonly master: MasterWeights;

  constructor(
    readonly groups: readonly ParameterGroup[],
    { betas = [0.9, 0.999], eps = 1e-8, master = 'float32', states = 'float32' }: AdamWOptions = {},
  ) {
    this.betas = betas;
    this.eps = eps;
    this.master = master;
    const named = groups.flatMap(({ parameters }) => [...parameters]);
    const seen = new Set<string>();
    const twice = named.map(([name]) => name).find((name) => seen.size === seen.add(name).size);
    if (twice !== undefined) {
      throw new UsageError(`the parameter '${twice}' is in two groups`, {
        code: 'E_PARAMETER_GROUP',
        hint: 'Give every parameter one learning rate.',
      });
    }
    for (const { parameters, from, notInt8 } of groups) {
      for (const [name, parameter] of parameters) {
        const plain = states === 'int8' && notInt8?.has(name) === true;
        const state = this.initial(parameter, plain ? 'float32' : states);
        this.states.set(name, { name, from: from?.get(name) ?? 0, ...state });
      }
    }
  }

  private initial(parameter: Tensor, states: StateType): Omit<ParameterState, 'name' | 'from'> {
    const { shape, device, dtype, numel } = parameter;
    const inInt8 = states === 'int8';
    const like = { dtype: inInt8 ? 'uint8' : states, device } as const;
    const scales = (): Tensor => zeros([int8Blocks(numel)], { dtype: 'float32', device }).keep();
    // A copy even of a meta tensor, so that a ghost run counts it.
    const copied = this.master === 'float32' && dtype !== 'float32' && dtype !== 'float64';
    return noGrad(() => ({
      parameter,
      master: copied ? scope(() => parameter.detach().to('float32').keep()) : parameter,
      moment: zeros(shape, like).keep(),
      square: zeros(shape, like).keep(),
      absmax: inInt8 ? { moment: scales(), square: scales() } : null,
      step: zeros([], { dtype: 'float32', device }).keep(),
    }));
  }

  /** Applies one update to every parameter that has a gradient. */
  update({ gradients, scheduleFactor, divisor, foundInf, rounding }: AdamWUpdate): void {
    noGrad(() =>
      scope(() => {
        const taken = foundInf?.neg().add(1);
        for (const group of this.groups) {
          const names = [...group.parameters.keys()].filter((name) => gradients.has(name));
          if (names.length === 0) continue;
          const states = names.map((name) => this.states.get(name)!);
          const steps = states.map(({ step }) => step);
          _foreachAdd_(steps, taken === undefined ? 1 : steps.map(() => taken));
          const settings = {
            lr: group.learningRate * scheduleFactor,
            beta1: this.betas[0],
            beta2: this.betas[1],
            weightDecay: group.weightDecay ?? 0,
            eps: this.eps,
            amsgrad: false,
            maximize: false,
            gradScale: divisor,
            foundInf,
          };
          // The fused kernel reads memory as it lies, and that of a convolution's gradient may lie as its pictures do.
          const sums = names.map((name) => {
            const sum = gradients.get(name)!;
            // Where it lies well nothing is called: in the background only what works in place can be.
            return sum.isContiguous ? sum : sum.contiguous();
          });
          const entries = states.map((state, i) => ({ state, sum: sums[i]! }));
          const plain = entries.filter(({ state }) => state.absmax === null);
          this.updateInt8(
            entries.filter(({ state }) => state.absmax !== null),
            { settings, rounding },
          );
          this.updatePlain(
            plain.map(({ state }) => state),
            plain.map(({ sum }) => sum),
            { settings, rounding },
          );
        }
      }),
    );
  }

  private updatePlain(
    states: readonly ParameterState[],
    sums: readonly Tensor[],
    { settings, rounding }: { settings: Settings; rounding: AdamWUpdate['rounding'] },
  ): void {
    if (states.length === 0) return;
    // Libtorch's kernel wants one dtype for a parameter, its gradient and its moments.
    const mixed = states.some(({ master, moment }) => moment.dtype !== master.dtype);
    const inOnePass = states.every(isForOurs);
    if (this.master === 'stochastic' || (mixed && (!inOnePass || rounding !== undefined)))
      this.updateInCopies(states, sums, settings, rounding);
    else if (inOnePass) this.updateInOnePass(states, sums, settings);
    else this.updateFused(states, sums, settings);
  }

  /** In one pass as well; weights that are kept in bf16 are rounded at random where there is a key. */
  private updateInt8(
    entries: readonly Entry[],
    { settings, rounding }: { settings: Settings; rounding: AdamWUpdate['rounding'] },
  ): void {
    const isRandom = ({ state: { master } }: Entry): boolean =>
      this.master === 'stochastic' && master.dtype === 'bfloat16' && rounding !== undefined;
    for (const random of [false, true]) {
      const taken = entries.filter((entry) => isRandom(entry) === random);
      if (taken.length === 0) continue;
      const list = (of: (state: ParameterState) => Tensor): Tensor[] =>
        taken.map(({ state }) => of(state));
      adamwInt8_(
        list(({ master }) => master),
        taken.map(({ sum }) => sum),
        list(({ moment }) => moment),
        list(({ absmax }) => absmax!.moment),
        list(({ square }) => square),
        list(({ absmax }) => absmax!.square),
        list(({ parameter }) => parameter),
        list(({ step }) => step),
        {
          ...settings,
          keys: random ? taken.flatMap(({ state }) => rounding!(state.name)) : [],
          first: taken.map(({ state }) => state.from),
        },
      );
    }
  }

  /** In one pass over memory, which is what bounds it: gradients as they come, masters rounded on the way. */
  private updateInOnePass(
    states: readonly ParameterState[],
    sums: readonly Tensor[],
    settings: Settings,
  ): void {
    const list = (key: 'master' | 'moment' | 'square' | 'parameter' | 'step') =>
      states.map((state) => state[key]);
    adamw_(
      list('master'),
      sums,
      list('moment'),
      list('square'),
      list('parameter'),
      list('step'),
      settings,
    );
  }

  private updateFused(
    states: readonly ParameterState[],
    sums: readonly Tensor[],
    settings: Settings,
  ): void {
    // In parts, since gradients in 16 bits are copied: all copies at once would be as large as a moment.
    for (const [from, to] of parts(sums)) {
      scope(() => {
        const part = states.slice(from, to);
        const list = (key: 'master' | 'moment' | 'square' | 'step') =>
          part.map((state) => state[key]);
        const gradients = part.map(({ master }, i) => sums[from + i]!.to(master.dtype));
        _fusedAdamw_(
          list('master'),
          gradients,
          list('moment'),
          list('square'),
          [],
          list('step'),
          settings,
        );
        roundMasters(part);
      });
    }
  }

  /**
   * One parameter at a time, in fp32 copies that live for that parameter only. What is kept in bf16 is rounded at random where
   * there is a key.
   */
  private updateInCopies(
    states: readonly ParameterState[],
    sums: readonly Tensor[],
    settings: Settings,
    rounding: AdamWUpdate['rounding'],
  ): void {
    states.forEach(({ name, from, master, moment, square, step }, i) => {
      scope(() => {
        const [w, g, m, v] = [master, sums[i]!, moment, square].map((x) => x.to('float32')) as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
        ];
        _fusedAdamw_([w], [g], [m], [v], [], [step], settings);
        for (const [target, source, kept] of [
          [master, w, name],
          [moment, m, `${name}.exp_avg`],
          [square, v, `${name}.exp_avg_sq`],
        ] as const) {
          if (target === source) continue;
          if (target.dtype === 'bfloat16' && rounding !== undefined)
            target.roundStochastic_(source, rounding(kept), from);
          else target.copy_(source);
        }
      });
    });
    roundMasters(states);
  }

  /** What is updated of a parameter: its master, where there is one. */
  weights(name: string): Tensor {
    return this.states.get(name)!.master;
  }

  /** Begins anew from parameters whose values were set: masters are theirs. */
  parametersRead(): void {
    noGrad(() => {
      for (const { parameter, master } of this.states.values()) {
        if (master !== parameter) master.copy_(parameter);
      }
    });
  }

  /** What a checkpoint must hold, by name: `<parameter>.exp_avg` and so on. */
  state(): Map<string, Tensor> {
    const state = new Map<string, Tensor>();
    for (const [name, { parameter, master, moment, square, absmax, step }] of this.states) {
      if (master !== parameter) state.set(`${name}.master`, master);
      state.set(`${name}.exp_avg`, moment);
      state.set(`${name}.exp_avg_sq`, square);
      if (absmax !== null) {
        state.set(scalesOf(`${name}.exp_avg`), absmax.moment);
        state.set(scalesOf(`${name}.exp_avg_sq`), absmax.square);
      }
      state.set(`${name}.step`, step);
    }
    return state;
  }

  dispose(): void {
    for (const tensor of this.state().values()) tensor.dispose();
  }
}

/** Whether our kernels take it: on the CPU single precision, elsewhere that or 16 bits. */
function isForOurs({ master, moment }: ParameterState): boolean {
  const types = [master.dtype, moment.dtype];
  return master.device === 'cpu'
    ? types.every((dtype) => dtype === 'float32')
    : !types.includes('float64');
}

/** Rounds parameters from the copies that are kept beside them. */
function roundMasters(states: readonly ParameterState[]): void {
  const copied = states.filter(({ parameter, master }) => master !== parameter);
  if (copied.length === 0) return;
  _foreachCopy_(
    copied.map(({ parameter }) => parameter),
    copied.map(({ master }) => master),
  );
}

/** Elements that are updated together: 1 GiB in fp32. */
const PART = 2 ** 28;

/** Ranges of neighbouring tensors, each with at most so many elements or of one tensor. */
function parts(tensors: readonly Tensor[]): (readonly [from: number, to: number])[] {
  const starts: number[] = [];
  let elements = Infinity;
  for (const [i, { numel }] of tensors.entries()) {
    if (elements + numel > PART) {
      starts.push(i);
      elements = 0;
    }
    elements += numel;
  }
  return starts.map((from, i) => [from, starts[i + 1] ?? tensors.length]);
}
