/** Work that shares a room: as much at once as has room, in its order where it can be. */

export interface SideBySideOptions<T> {
  /** What all that runs at once may take. */
  readonly room: number;
  /** What a piece takes; one that takes more than the room runs alone. */
  readonly takes: (piece: T) => number;
  /** Whether more may begin. */
  readonly mayBegin: () => boolean;
  /** @param isShared whether another piece has run beside it until then */
  readonly run: (piece: T, isShared: () => boolean) => Promise<void>;
}

interface Running {
  readonly takes: number;
  readonly done: Promise<void>;
  isShared: boolean;
}

/**
 * @returns what was not begun
 * @throws the first error of `run`, once nothing runs any more
 */
export async function sideBySide<T>(
  pieces: readonly T[],
  { room, takes, mayBegin, run }: SideBySideOptions<T>,
): Promise<T[]> {
  const left = [...pieces];
  const running = new Set<Running>();
  const errors: unknown[] = [];
  const hasRoom = (piece: T): boolean => {
    const taken = [...running].reduce((sum, each) => sum + each.takes, takes(piece));
    return running.size === 0 || taken <= room;
  };
  const begin = (piece: T): void => {
    const own: Running = {
      takes: takes(piece),
      isShared: false,
      done: run(piece, () => own.isShared)
        .catch((error: unknown) => void errors.push(error))
        .finally(() => running.delete(own)),
    };
    running.add(own);
    if (running.size > 1) for (const each of running) each.isShared = true;
  };
  while (left.length > 0 && errors.length === 0 && mayBegin()) {
    const next = left.findIndex(hasRoom);
    if (next >= 0) begin(left.splice(next, 1)[0]!);
    else await Promise.race([...running].map(({ done }) => done));
  }
  await Promise.all([...running].map(({ done }) => done));
  if (errors.length > 0) throw errors[0];
  return left;
}
