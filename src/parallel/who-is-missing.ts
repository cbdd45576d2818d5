/** Why a collective does not end: from what every rank last called in the group, who is missing or does something else. */

/** What a rank called in a group: its how manyth call, and which. */
export interface GroupCall {
  readonly index: number;
  /** For example `all-reduce of 1024 float32`. */
  readonly what: string;
  /** For example the segment's name. */
  readonly label: string;
}

/** How many calls before the latest one are told with it: who does not wait for a call goes on to the next ones. */
export const REMEMBERED = 8;

/** @param earlier calls before it, the latest first */
export function callText(call: GroupCall, earlier: readonly GroupCall[] = []): string {
  const plain = ({ what, label }: GroupCall): string =>
    `${what}\t${label.replaceAll(/[\t\n]/g, ' ')}`;
  return [call.index, ...[call, ...earlier].map(plain)].join('\t');
}

/** The latest calls of a group in the state that a rank wrote with its heartbeat (see native/heartbeat.cc), the last one first. */
export function latestCalls(state: string, group: string): GroupCall[] {
  for (const line of state.split('\n').slice(1)) {
    const [name, index, ...calls] = line.split('\t');
    if (name !== group) continue;
    return Array.from({ length: calls.length / 2 }, (_, i) => {
      return { index: Number(index) - i, what: calls[2 * i]!, label: calls[2 * i + 1]! };
    });
  }
  return [];
}

/** What other ranks called last, the last one first, by their ranks in the job; none: nothing so far. */
type Others = ReadonlyMap<number, readonly GroupCall[]>;

/**
 * One sentence that names the ranks at fault.
 *
 * @param call the one that does not end
 */
export function whoIsMissing(call: GroupCall, others: Others): string {
  const behind = [...others].filter(([, calls]) => isBehind(call, calls));
  if (behind.length > 0) {
    return behind
      .map(([rank, [last]]) => {
        const was = last === undefined ? 'it has called nothing yet' : `its last was ${told(last)}`;
        return `rank ${rank} has not called it (${was})`;
      })
      .join('; ');
  }
  return (
    whoIsAstray(call, others) ??
    whoIsFarAhead(call, others) ??
    'all ranks have called it, so the network or a device hangs'
  );
}

/** One sentence that names the ranks that call something else in its place; `null` where none does, or one has yet to come so far. */
export function whoIsAstray(call: GroupCall, others: Others): string | null {
  if ([...others.values()].some((calls) => isBehind(call, calls))) return null;
  const astray = [...others].flatMap(([rank, calls]) => {
    const other = calls.find(({ index }) => index === call.index);
    if (other === undefined || other.what === call.what) return [];
    const [last] = calls;
    const on = last === other ? '' : ` and has gone on, without waiting, to ${told(last!)}`;
    return `rank ${rank} calls something else as its ${told(other)}${on}`;
  });
  return astray.length === 0 ? null : astray.join('; ');
}

/** One sentence that names the ranks of which it is no longer known what they called in its place. */
function whoIsFarAhead({ index }: GroupCall, others: Others): string | null {
  const ahead = [...others].filter(([, calls]) => calls.every((each) => each.index > index));
  if (ahead.length === 0) return null;
  const which = ahead.map(([rank, [last]]) => `rank ${rank} has gone on to ${told(last!)}`);
  return `${which.join('; ')}, without waiting: either it called something else in its place, or the network or a device hangs`;
}

function isBehind(call: GroupCall, calls: readonly GroupCall[]): boolean {
  return (calls[0]?.index ?? 0) < call.index;
}

function told({ index, what, label }: GroupCall): string {
  return `call ${index}, ${what} for '${label}'`;
}
