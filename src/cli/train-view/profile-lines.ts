/** Where an update's time goes, as lines for people. */
import { WORK_KINDS, type WorkKind } from '../../torch/work-kinds.js';
import { STEP_PARTS, type StepPart } from '../../train/profile/step-parts.js';
import type { StepProfile } from '../../train/profile/step-profile.js';

/** A table of kinds of work by parts of the model, in milliseconds of one update, and below it what keeps it from being faster. */
export function profileLines(profile: StepProfile): string[] {
  const { updates, measured, milliseconds, idle, host, work } = profile;
  const parts = STEP_PARTS.filter((part) => WORK_KINDS.some((kind) => work[kind]?.[part]));
  const share = (time: number): string => `${((100 * time) / milliseconds).toFixed(1)} %`;
  const row = (name: string, times: Partial<Record<StepPart, number>>, note = ''): string[] => {
    const total = Object.values(times).reduce((sum, time) => sum + time, 0);
    return [
      ...[name, ms(total), share(total)],
      ...parts.map((part) => (times[part] === undefined ? '' : ms(times[part]))),
      note,
    ];
  };
  const idleNote = measured === 'kernels' ? 'no kernel ran' : 'between operators';
  const table = [
    ['ms of one update', 'all', '', ...parts, ''],
    ...WORK_KINDS.flatMap((kind) =>
      work[kind] === undefined ? [] : [row(kind, work[kind], noteOf(kind, profile))],
    ),
    ['idle', ms(idle), share(idle), ...parts.map(() => ''), idleNote],
  ];
  const device = measured === 'kernels';
  return [
    `an update took ${ms(milliseconds)} ms (mean of ${updates}, times of ${measured}); ` +
      `the host needed ${ms(host)} ms to ${device ? 'queue' : 'run'} it (${share(host)})`,
    ...aligned(table).map((line) => `  ${line}`),
    `${device ? `${count(profile.kernels)} kernels and copies, ` : ''}${count(profile.operators)} calls of operators; ` +
      `waits for the device: ${waitsText(profile.waits)}`,
    `longest ${measured}:`,
    ...aligned(
      profile.longest.map(({ name, kind, times, milliseconds: time }) => [
        ...['', ms(time), share(time), count(times), `${kind.padEnd(KIND_WIDTH)}  ${short(name)}`],
      ]),
    ),
  ];
}

function noteOf(kind: WorkKind, { products, bare, measured }: StepProfile): string {
  if (kind === 'products') {
    const { teraflop, teraflops, share } = products;
    const ofCard = share === null ? '' : `, ${(100 * share).toFixed(0)} % of the card's bf16 rate`;
    return `${teraflop.toPrecision(3)} TFLOP, ${teraflops.toPrecision(3)} TFLOP/s${ofCard}`;
  }
  if (measured === 'operators' || (kind !== 'copies' && kind !== 'communication')) return '';
  return `${ms(bare[kind])} while nothing else ran`;
}

function waitsText(waits: StepProfile['waits']): string {
  const all = Object.entries(waits).map(([name, times]) => `${name} ${count(times)}`);
  return all.length === 0 ? 'none' : all.join(', ');
}

function ms(time: number): string {
  return time.toFixed(time < 99.95 ? 2 : 1);
}

/** A mean over updates, which need not be whole. */
function count(times: number): string {
  return Number.isInteger(times) ? `${times}` : times.toFixed(1);
}

const KIND_WIDTH = Math.max(...WORK_KINDS.map((kind) => kind.length));
const NAME_WIDTH = 90;

/** A kernel without the words that all have, cut where only template arguments would follow. */
function short(name: string): string {
  const bare = name
    .replace(/^void /, '')
    .replaceAll('(anonymous namespace)::', '')
    .replaceAll('at::native::', '');
  return bare.length > NAME_WIDTH ? `${bare.slice(0, NAME_WIDTH)}...` : bare;
}

/** Names to the left, numbers to the right, what is in words at the end to the left again. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) =>
    row
      .map((cell, i) =>
        i === 0 || i === row.length - 1 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!),
      )
      .join('  ')
      .trimEnd(),
  );
}
