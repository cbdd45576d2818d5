/**
 * Where the time of updates goes, from what a profile recorded of them: by kind of work and by what of the model did it.
 *
 * On a GPU the time is that of kernels and copies. Each belongs to the range that was open on the host when it was launched, however
 * much later it ran. On a CPU the time of operators stands in, less that of the operators within them.
 */

import {
  busyTime,
  kindOfKernel,
  kindOfOperator,
  productOperations,
  WORK_KINDS,
  type Activity,
  type WorkKind,
} from '../../torch/index.js';
import { Ranges } from './ranges.js';
import { STEP_PARTS, type StepPart } from './step-parts.js';

/** Plain JSON; all times in milliseconds, and all but `updates` of one update, averaged. */
export interface StepProfile {
  readonly updates: number;
  /** What the times are of. */
  readonly measured: 'kernels' | 'operators';
  readonly milliseconds: number;
  /** Kinds and parts that took no time are left out. Streams that ran at the same time count each. */
  readonly work: Readonly<Partial<Record<WorkKind, Readonly<Partial<Record<StepPart, number>>>>>>;
  /** Of copies and communication, while nothing else ran. */
  readonly bare: { readonly copies: number; readonly communication: number };
  /** No kernel or copy ran; on a CPU no operator. */
  readonly idle: number;
  /** Until the host had queued an update, slowed down by the profile. */
  readonly host: number;
  readonly products: {
    /** Floating-point operations, in 10^12. */
    readonly teraflop: number;
    /** In a second of the products' own time. */
    readonly teraflops: number;
    /** Of what the card does in bf16; `null` where that is not known. */
    readonly share: number | null;
  };
  /**
   * What made the host wait for the device before an update was queued, with how many times. On a CPU, where nothing is waited for: where
   * values were read, but by operators of our own.
   */
  readonly waits: Readonly<Record<string, number>>;
  /** Kernels and copies that were launched. */
  readonly kernels: number;
  /** Operators that were called, those within others not counted. */
  readonly operators: number;
  /** The kernels, or operators, that took most. */
  readonly longest: readonly Longest[];
}

export interface Longest {
  readonly name: string;
  readonly kind: WorkKind;
  readonly times: number;
  readonly milliseconds: number;
}

/** One piece of work. */
interface Work {
  readonly name: string;
  readonly kind: WorkKind;
  readonly part: StepPart;
  readonly milliseconds: number;
}

/**
 * @param activities of updates within ranges of `updateRange`, with the device idle before and after
 * @param teraflops of the card in bf16, where it is known
 * @throws TypeError where no update is among them
 */
export function stepProfile(
  activities: readonly Activity[],
  { teraflops }: { readonly teraflops?: number | undefined } = {},
): StepProfile {
  const ranges = new Ranges(activities.filter(({ kind }) => kind === 'range'));
  const { updates, start } = ranges;
  if (updates === 0) throw new TypeError('the profile holds no update');
  const since = activities.filter((activity) => activity.start >= start);
  const operators = since.filter(({ kind }) => kind === 'operator');
  const runtime = since.filter(({ kind }) => kind === 'runtime');
  const device = since.filter(({ kind }) => kind === 'kernel' || kind === 'copy');
  const onGpu = device.length > 0;

  const launches = new Map(runtime.map((call) => [call.correlation, call.start]));
  const launchOf = (activity: Activity): number =>
    launches.get(activity.correlation) ?? activity.start;
  const nested = selfTimes(operators);
  const work: Work[] = onGpu
    ? device.map((each) => ({
        name: each.name,
        kind: kindOfKernel(each.name),
        part: ranges.at(launchOf(each)).part,
        milliseconds: each.end - each.start,
      }))
    : nested.map(({ operator: { name, start: from }, milliseconds }) => ({
        ...{ name, milliseconds, kind: kindOfOperator(name) },
        part: ranges.at(from).part,
      }));

  const busy = onGpu ? device : operators;
  const end = busy.reduce((last, each) => Math.max(last, each.end), ranges.end);
  const total = end - start;
  const bare = (kind: WorkKind): number =>
    onGpu
      ? busyTime(device) - busyTime(device.filter(({ name }) => kindOfKernel(name) !== kind))
      : 0;
  const each = (value: number): number => value / updates;

  const inProducts = sum(work.filter(({ kind }) => kind === 'products'));
  const teraflop =
    operators.reduce((all, { name, shapes }) => all + productOperations(name, shapes), 0) / 1e12;
  const rate = inProducts === 0 ? 0 : teraflop / (inProducts / 1000);
  return {
    updates,
    measured: onGpu ? 'kernels' : 'operators',
    milliseconds: each(total),
    work: byKindAndPart(work, updates),
    bare: { copies: each(bare('copies')), communication: each(bare('communication')) },
    idle: each(total - busyTime(busy)),
    host: each(ranges.inUpdates),
    products: {
      teraflop: each(teraflop),
      teraflops: rate,
      share: teraflops === undefined || !onGpu ? null : rate / teraflops,
    },
    waits: waitsOf(
      [
        ...nested.flatMap(({ operator, root }) =>
          onGpu || !root.name.startsWith('patina::') ? [operator] : [],
        ),
        ...runtime,
        ...device.map((each) => ({ ...each, start: launchOf(each) })),
      ].filter(({ start: from }) => ranges.at(from).inUpdate),
      updates,
    ),
    kernels: each(device.length),
    operators: each(nested.filter(({ operator, root }) => operator === root).length),
    longest: longestOf(work, updates),
  };
}

interface Nested {
  readonly operator: Activity;
  /** Without those within it. */
  milliseconds: number;
  /** The outermost one that it is within, or itself. */
  readonly root: Activity;
}

/** Operators of a thread contain one another or follow one another. */
function selfTimes(operators: readonly Activity[]): Nested[] {
  const open = new Map<string, Nested[]>();
  return operators
    .toSorted((a, b) => a.start - b.start || b.end - a.end)
    .map((operator) => {
      const stack = open.get(operator.thread) ?? [];
      open.set(operator.thread, stack);
      while (stack.length > 0 && stack.at(-1)!.operator.end <= operator.start) stack.pop();
      const milliseconds = operator.end - operator.start;
      const parent = stack.at(-1);
      if (parent !== undefined) parent.milliseconds -= milliseconds;
      const nested: Nested = { operator, milliseconds, root: parent?.root ?? operator };
      stack.push(nested);
      return nested;
    });
}

function sum(work: readonly Pick<Work, 'milliseconds'>[]): number {
  return work.reduce((all, { milliseconds }) => all + milliseconds, 0);
}

function byKindAndPart(work: readonly Work[], updates: number): StepProfile['work'] {
  const parts = (kind: WorkKind): [StepPart, number][] =>
    STEP_PARTS.map((part) => [
      part,
      sum(work.filter((each) => each.kind === kind && each.part === part)) / updates,
    ]);
  const rows = WORK_KINDS.map(
    (kind) => [kind, parts(kind).filter(([, time]) => time > 0)] as const,
  );
  return Object.fromEntries(
    rows
      .filter(([, times]) => times.length > 0)
      .map(([kind, times]) => [kind, Object.fromEntries(times)]),
  );
}

/** Calls that return no sooner than the device has done what was queued before. */
const WAITS =
  /^(?:cuda(?:Stream|Device|Event)Synchronize|cuda(?:Memcpy|Memcpy2D|Memset|Malloc|Free|HostAlloc|FreeHost)|cu(?:Ctx|Stream|Event)Synchronize|aten::_local_scalar_dense|aten::nonzero)$|\bPageable\b/;

function waitsOf(activities: readonly Activity[], updates: number): Record<string, number> {
  const waits: Record<string, number> = {};
  for (const { name } of activities) {
    if (WAITS.test(name)) waits[name] = (waits[name] ?? 0) + 1 / updates;
  }
  return waits;
}

const SHOWN = 12;

function longestOf(work: readonly Work[], updates: number): Longest[] {
  const groups = new Map<string, Work[]>();
  for (const each of work) {
    const same = groups.get(each.name);
    if (same === undefined) groups.set(each.name, [each]);
    else same.push(each);
  }
  return [...groups]
    .map(([name, same]) => ({
      ...{ name, kind: same[0]!.kind, times: same.length / updates },
      milliseconds: sum(same) / updates,
    }))
    .toSorted((a, b) => b.milliseconds - a.milliseconds)
    .slice(0, SHOWN);
}
