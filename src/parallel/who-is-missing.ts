/** Why a collective does not end: from what every rank last called in the group, who is missing or does something else. */

/** What a rank last called in a group: its how manyth call, and which. */
export interface LatestCall {
  readonly index: number;
  /** For example `all-reduce of 1024 float32`. */
  readonly what: string;
  /** For example the segment's name. */
  readonly label: string;
}

export function callText({ index, what, label }: LatestCall): string {
  return `${index}\t${what}\t${label.replaceAll(/[\t\n]/g, ' ')}`;
}

/** The latest call of a group in the state that a rank wrote with its heartbeat (see native/heartbeat.cc). */
export function latestCall(state: string, group: string): LatestCall | undefined {
  for (const line of state.split('\n').slice(1)) {
    const [name, index, what = '', label = ''] = line.split('\t');
    if (name === group) return { index: Number(index), what, label };
  }
  return undefined;
}

type Others = ReadonlyMap<number, LatestCall | undefined>;

/**
 * One sentence that names the ranks at fault.
 *
 * @param call the one that does not end
 * @param others of the other ranks, by their ranks in the job; `undefined`: none so far
 */
export function whoIsMissing(call: LatestCall, others: Others): string {
  const behind = [...others].filter(([, other]) => isBehind(call, other));
  if (behind.length > 0) {
    return behind
      .map(([rank, last]) => {
        const was = last === undefined ? 'it has called nothing yet' : `its last was ${told(last)}`;
        return `rank ${rank} has not called it (${was})`;
      })
      .join('; ');
  }
  return whoIsAstray(call, others) ?? 'all ranks have called it, so the network or a device hangs';
}

/** One sentence that names the ranks that call something else in its place; `null` where none does, or one has yet to come so far. */
export function whoIsAstray(call: LatestCall, others: Others): string | null {
  if ([...others].some(([, other]) => isBehind(call, other))) return null;
  const astray = [...others].filter(([, other]) => {
    return other!.index === call.index && other!.what !== call.what;
  });
  if (astray.length === 0) return null;
  return astray
    .map(([rank, other]) => `rank ${rank} calls something else as its ${told(other!)}`)
    .join('; ');
}

function isBehind(call: LatestCall, other: LatestCall | undefined): boolean {
  return (other?.index ?? 0) < call.index;
}

function told({ index, what, label }: LatestCall): string {
  return `call ${index}, ${what} for '${label}'`;
}
