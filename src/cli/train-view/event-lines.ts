/** Events of training as lines for people. Pure functions, text out. */
import { relative } from 'node:path';

import { formatBytes, formatCount, formatDuration, formatPace, plural } from '../../base/format.js';
import { describePlace, describeRejected } from '../../data/sources/place.js';
import { shownId } from '../../data/records/record.js';
import { type DataWarning, WARNINGS } from '../../data/warnings.js';
import type {
  ChoiceRow,
  DiagnosisEvent,
  EndEvent,
  LoggedWarning,
  MemoryEvent,
  MemoryPeaks,
  ProbeAnswer,
  RecoveryEvent,
  ScoreEvent,
  SmallerBatchesEvent,
  StartEvent,
  TrainableRow,
  TrainEvent,
  UpdateEvent,
} from '../../train/index.js';

import { profileLines } from './profile-lines.js';

/** What came before and is shown again. */
export interface Earlier {
  /** By question, the answers before the first update. @default none */
  readonly before?: readonly ProbeAnswer[];
  /** Shown with the end. @default not known */
  readonly memory?: MemoryEvent | null;
}

/** The lines of any event but an update; none for what need not be said. */
export function eventLines(
  event: Exclude<TrainEvent, UpdateEvent>,
  { before = [], memory = null }: Earlier = {},
): string[] {
  switch (event.type) {
    case 'loading':
      return [`${event.what} ...`];
    case 'start':
      return startLines(event);
    case 'validation': {
      const best = event.best ? ', the lowest so far' : '';
      return [
        `update ${event.update}: validation loss ${figures(event.loss)}${best} (${formatDuration(event.seconds)})`,
      ];
    }
    case 'score':
      return [scoreLine(event)];
    case 'probes':
      return event.answers.flatMap((answer, i) =>
        probeLines(event.update, answer, event.update === 0 ? undefined : before[i]),
      );
    case 'checkpoint':
      return [
        `update ${event.update}: saved ${event.path} (${formatBytes(event.bytes)}, ${formatDuration(event.seconds)})`,
      ];
    case 'profile':
      return [
        `profile of ${plural(event.updates, 'update')}, to update ${event.update}`,
        ...profileLines(event).map((line) => `  ${line}`),
        `  trace, for https://ui.perfetto.dev or chrome://tracing: ${event.trace}`,
      ];
    case 'finding':
      return [
        `${event.severity}: ${event.message} [${event.cause}${event.count > 1 ? `, ${event.count} times` : ''}]`,
        `  > ${event.fix}`,
      ];
    case 'warning':
      return [`warning: ${event.message} [${event.code}]`];
    case 'bad-record':
      return [`left out: ${describeRejected(event.record)} [${event.record.code}]`];
    case 'diagnosis':
      return diagnosisLines(event);
    case 'recovery':
      return [recoveryLine(event)];
    case 'memory':
      return [];
    case 'end':
      return endLines(event, memory);
  }
}

function scoreLine({ update, name, harness, n, score, ...event }: ScoreEvent): string {
  const [low, high] = event.interval.map(figures);
  const best = event.best ? ', the highest since the first update' : '';
  const took = `${formatDuration(event.seconds)}, ${formatBytes(event.peakBytes)}`;
  return `update ${update}: ${name} ${figures(score)} (${low!} to ${high!}, n ${n}, ${harness})${best} (${took})`;
}

function recoveryLine(event: RecoveryEvent | SmallerBatchesEvent): string {
  const { update, message, action } = event;
  if (event.action !== 'halve') {
    return `update ${update}: ${message} (${action}, ${event.budgetLeft} left)`;
  }
  const { allocated, predicted } = event.memory;
  const planned = predicted === null ? '' : `, planned ${formatBytes(predicted)}`;
  return `update ${update}: ${message} (${formatBytes(allocated)} in tensors${planned})`;
}

/** Measured, with predicted beside it. */
function memoryText({ predicted, measured, seconds, note }: MemoryEvent): string {
  const beside = (kind: keyof MemoryPeaks): string =>
    formatBytes(measured[kind]) +
    (predicted === null ? '' : ` (planned ${formatBytes(predicted[kind])})`);
  const unplanned = predicted === null && note !== undefined ? `, no plan: ${note}` : '';
  const pace = seconds === undefined ? '' : `, ${secondsText(seconds)}`;
  return `at most ${beside('allocated')} in tensors, ${beside('reserved')} reserved${pace}${unplanned}`;
}

function secondsText({
  predicted,
  measured,
  earlierRuns,
}: NonNullable<MemoryEvent['seconds']>): string {
  const basis = earlierRuns === undefined ? '' : ` by ${earlierRuns} runs before it`;
  return `${formatPace(measured)} an update (planned ${formatPace(predicted)}${basis})`;
}

function diagnosisLines(event: DiagnosisEvent): string[] {
  const { update, cause, confidence, message, evidence, fix, records, module, rank, page } = event;
  return [
    `update ${update}: ${cause} (${Math.round(100 * confidence)} %): ${message}`,
    ...evidence.map((each) => `  - ${each}`),
    ...(module === null ? [] : [`  module ${module}`]),
    ...(rank === null ? [] : [`  rank ${rank}`]),
    ...records.map(({ source, line, record, id }) => {
      const name = id === null ? '' : `, id ${shownId(id)}`;
      return `  ${describePlace({ file: source, line, record })}${name}`;
    }),
    `  what to do: ${fix} (${page})`,
  ];
}

function startLines(event: StartEvent): string[] {
  const { recipe, device, statements, table, choices, parameters, data, updates } = event;
  const { run, resumedFrom } = event;
  const { trained, total } = parameters;
  const share = ((100 * trained) / total).toPrecision(3);
  const epochs = Number(updates.epochs.toPrecision(3));
  return [
    `${recipe} on ${device}`,
    ...statements,
    ...tableLines(table),
    ...choiceLines(choices),
    `${formatCount(trained)} of ${formatCount(total)} parameters train (${share} %)`,
    ...data.sources.map(
      ({ path, train, records, weight }) =>
        `data: ${path}: ${train} of ${records} records${weight === 1 ? '' : `, weight ${weight}`}`,
    ),
    ...(data.validationRecords > 0
      ? [`validation: ${data.validationRecords} records held out`]
      : []),
    `${updates.planned} updates, ${updates.perEpoch} an epoch (${epochs} epochs), ${updates.warmup} of warm-up`,
    ...(run === null ? [] : [`run: ${run}`]),
    ...(resumedFrom > 0 ? [`goes on after update ${resumedFrom}`] : []),
  ];
}

/** What trains, a row for each kind, columns aligned. */
function tableLines(table: readonly TrainableRow[]): string[] {
  const head = ['part', 'trains', 'tensors', 'parameters', 'type', 'learning rate', 'decay'];
  const rows = table.map((row) => [
    row.part,
    row.kind,
    String(row.tensors),
    formatCount(row.parameters),
    row.dtype,
    row.learningRate === null ? '-' : rate(row.learningRate),
    row.weightDecay === null ? '-' : String(row.weightDecay),
  ]);
  return columns([head, ...rows]).map((line) => `  ${line}`);
}

/** Number types that save memory, likewise. */
function choiceLines(choices: readonly ChoiceRow[]): string[] {
  if (choices.length === 0) return [];
  const head = ['kept in fewer bits', 'saves', 'costs', 'numbers'];
  const rows = choices.map(({ choice, saves, costs, numerics }) => [
    ...[choice, formatBytes(saves), costs, numerics],
  ]);
  return columns([head, ...rows]).map((line) => `  ${line}`);
}

/** Rows as lines of aligned columns. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  );
}

function probeLines(
  update: number,
  { question, images, answer }: ProbeAnswer,
  before: ProbeAnswer | undefined,
): string[] {
  const pictures = images.map((image) => image.replace(/^.*[/\\]/, '')).join(', ');
  const asked = `${pictures === '' ? '' : `${pictures}: `}${oneLine(question)}`;
  const now = oneLine(answer);
  return before === undefined
    ? [`update ${update}: ${asked}  ->  ${now}`]
    : [`update ${update}: ${asked}  ->  ${now}  (before: ${oneLine(before.answer)})`];
}

const ANSWER_WIDTH = 60;

function oneLine(text: string): string {
  const line = JSON.stringify(text).slice(1, -1);
  return line.length > ANSWER_WIDTH ? `${line.slice(0, ANSWER_WIDTH)}...` : line;
}

const RESUME = 'patina train --resume';

/** How a run ended, and what there is to know about it. */
const REASONS = {
  finished: ['finished', ''],
  'early-stopped': ['stopped early', 'validation no longer became better'],
  'max-updates': ['stopped as asked for', RESUME],
  interrupted: ['interrupted', RESUME],
  'dry-run': ['nothing was trained (--dry-run)', ''],
} as const satisfies Record<EndEvent['reason'], readonly [string, string]>;

function endLines(event: EndEvent, memory: MemoryEvent | null): string[] {
  const [how, more] = REASONS[event.reason];
  if (event.reason === 'dry-run') return [how];
  const { update, loss, validationLoss, scores, seconds, skipped, badRecords } = event;
  const updates = plural(update, 'update');
  const parts = [
    `${how} after ${updates} and ${formatDuration(seconds)}`,
    ...(loss === null ? [] : [`loss ${figures(loss)}`]),
    ...(validationLoss === null ? [] : [`validation loss ${figures(validationLoss)}`]),
    ...Object.entries(scores).map(([name, score]) => `${name} ${figures(score)}`),
    ...(skipped === 0 ? [] : [`${plural(skipped, 'update')} skipped (gradient not finite)`]),
    ...(badRecords === 0
      ? []
      : [`${plural(badRecords, 'record')} left out (listed in events.jsonl)`]),
    ...(memory === null ? [] : [memoryText(memory)]),
  ];
  const next = more === RESUME ? `\`${RESUME}${runName(event.run)}\` goes on` : more;
  return [
    ...Object.entries(event.warnings).map(([code, records]) =>
      warningLine({ code, message: code, records }),
    ),
    `${parts.join(', ')}${next === '' ? '' : `; ${next}`}`,
  ];
}

/** A kind of warning, and how many records it was about. */
export function warningLine({ code, message, records }: LoggedWarning): string {
  const sentence = WARNINGS[code as DataWarning] ?? message;
  const times = records === null ? '' : `: ${plural(records, 'record')}`;
  return `warning: ${sentence}${times} [${code}]`;
}

/** The run as it may be typed from here: the newest under `runs` need not be this one. */
function runName(run: string | null): string {
  if (run === null) return '';
  const path = relative('', run);
  return ` ${path.startsWith('..') ? run : path}`;
}

/** An update on one line. */
export function updateLine(event: UpdateEvent, planned: number): string {
  const { update, loss, learningRate, gradientNorm, tokensPerSecond, counts } = event;
  const width = String(planned).length;
  const shown = loss === null ? 'none' : figures(loss);
  return [
    `update ${String(update).padStart(width)}/${planned}`,
    `loss ${shown.padEnd(6)}`,
    `norm ${figures(gradientNorm)}`,
    `lr ${rate(learningRate)}`,
    `${formatCount(tokensPerSecond)} tok/s (${formatCount((tokensPerSecond * counts.imageTokens) / counts.tokens || 0)} image)`,
    ...(event.filled === undefined ? [] : [`filled ${percent(event.filled)}`]),
    ...(event.skipped ? [skippedText(event)] : []),
  ].join('  ');
}

function skippedText({ skippedSegments }: UpdateEvent): string {
  const what =
    skippedSegments === null ? '' : ` in ${skippedSegments.join(', ')}, the rest was applied`;
  return `SKIPPED: gradient not finite${what}`;
}

/** Four figures; three where a number is so small or large that it takes an exponent. */
export function figures(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size === 0 || (size >= 1e-3 && size < 9999.5)
    ? value.toPrecision(4).slice(0, 7)
    : value.toExponential(2);
}

function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

function rate(value: number): string {
  return value === 0 ? '0' : value.toExponential(2);
}

/** Speed, memory and the time that is left, from the last updates. */
export function speedLine(recent: readonly UpdateEvent[], planned: number): string {
  const total = (of: (event: UpdateEvent) => number): number =>
    recent.reduce((sum, event) => sum + of(event), 0);
  const last = recent.at(-1)!;
  const seconds = total((event) => event.seconds);
  const perSecond = (of: (event: UpdateEvent) => number): string =>
    formatCount(total(of) / seconds);
  const { totalBytes } = last.memory;
  // Of several ranks the one that has the least left.
  const peaks = (last.ranks ?? []).map((each) => each.peakBytes);
  const peakBytes = Math.max(last.memory.peakBytes, ...peaks);
  const left = ((planned - last.update) * seconds) / recent.length;
  // Tokens over what all of them had room for.
  const packed = recent.filter(({ filled }) => filled !== undefined && filled > 0);
  const room = packed.reduce((sum, { counts, filled }) => sum + counts.tokens / filled!, 0);
  const tokens = packed.reduce((sum, { counts }) => sum + counts.tokens, 0);
  return [
    `${perSecond(({ counts }) => counts.tokens)} tok/s (${perSecond(({ counts }) => counts.imageTokens)} image)`,
    ...(room > 0 ? [`filled ${percent(tokens / room)}`] : []),
    `${perSecond(({ counts }) => counts.sequences)} samples/s`,
    `waiting ${percent(total((event) => event.waiting * event.seconds) / seconds)}`,
    `memory ${formatBytes(peakBytes)}, ${formatBytes(totalBytes - peakBytes)} free`,
    `${formatDuration(left)} left`,
  ].join('  ');
}
