/**
 * AdamW (Loshchilov and Hutter 2019) by kernels of our own, gated on the device.
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
 * - `none`: nothing; the update is computed in fp32 and rounded to nearest, moments too, as the peers of `bench/train.ts` do it. Recipes do
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
  readonly rounding?: Rounding;
}

type Rounding = (name: string) => CounterKey;

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

type Settings = Parameters<typeof adamw_>[6];

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
    const copied = this.master === 'float32' && dtype !== 'float32';
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
          const steps = names.map((name) => this.states.get(name)!.step);
          _foreachAdd_(steps, taken === undefined ? 1 : steps.map(() => taken));
          const settings = {
            lr: group.learningRate * scheduleFactor,
            beta1: this.betas[0],
            beta2: this.betas[1],
            weightDecay: group.weightDecay ?? 0,
            eps: this.eps,
            gradScale: divisor,
            foundInf,
          };
          const entries = names.map((name) => {
            const sum = gradients.get(name)!;
            // Kernels read memory as it lies, and that of a convolution's gradient may lie as its pictures do. Where it lies well nothing is
            // called: in the background only what works in place can be.
            return {
              state: this.states.get(name)!,
              sum: sum.isContiguous ? sum : sum.contiguous(),
            };
          });
          for (const random of [false, true]) {
            const alike = entries.filter(({ state }) => this.isRandom(state) === random);
            const options = [settings, random ? rounding : undefined] as const;
            updatePlain(
              alike.filter(({ state }) => state.absmax === null),
              ...options,
            );
            updateInt8(
              alike.filter(({ state }) => state.absmax !== null),
              ...options,
            );
          }
        }
      }),
    );
  }

  /** Whether its weights or moments are rounded at random: where they are kept in bf16, unless masters are `none`. */
  private isRandom({ master, moment }: ParameterState): boolean {
    return this.master !== 'none' && [master.dtype, moment.dtype].includes('bfloat16');
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

/** The update of some parameters in one pass over memory, which is what bounds it: gradients are read as they come, results written rounded. */
function updatePlain(entries: readonly Entry[], settings: Settings, rounding?: Rounding): void {
  if (entries.length === 0) return;
  const list = listOf(entries);
  adamw_(
    list('master'),
    entries.map(({ sum }) => sum),
    list('moment'),
    list('square'),
    list('parameter'),
    list('step'),
    {
      ...settings,
      keys: keysOf(entries, rounding, (name) => [name, `${name}.exp_avg`, `${name}.exp_avg_sq`]),
      first: list('from'),
    },
  );
}

/** The same of those with moments in 8 bits. */
function updateInt8(entries: readonly Entry[], settings: Settings, rounding?: Rounding): void {
  if (entries.length === 0) return;
  const list = listOf(entries);
  const scales = list('absmax');
  adamwInt8_(
    list('master'),
    entries.map(({ sum }) => sum),
    list('moment'),
    scales.map((each) => each!.moment),
    list('square'),
    scales.map((each) => each!.square),
    list('parameter'),
    list('step'),
    {
      ...settings,
      keys: keysOf(entries, rounding, (name) => [name]),
      first: list('from'),
    },
  );
}

const listOf =
  (entries: readonly Entry[]) =>
  <K extends keyof ParameterState>(key: K): ParameterState[K][] =>
    entries.map(({ state }) => state[key]);

/** Keys of all that is rounded of each parameter; none where nothing is rounded at random. */
function keysOf(
  entries: readonly Entry[],
  rounding: Rounding | undefined,
  rounded: (name: string) => string[],
): number[] {
  if (rounding === undefined) return [];
  return entries.flatMap(({ state: { name } }) => rounded(name).flatMap((each) => rounding(each)));
}
