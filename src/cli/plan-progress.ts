/** Tells on stderr what is planned at the moment. */
import { LoadProgress } from './load-progress.js';
import type { Session } from './session.js';

export async function withPlanProgress<T>(
  { stderr }: Pick<Session, 'stderr'>,
  run: (show: (what: readonly string[]) => void) => Promise<T>,
): Promise<T> {
  const progress = new LoadProgress(stderr);
  let count = 0;
  try {
    return await run((what) => {
      progress.plan(++count, what.join(' '));
    });
  } finally {
    progress.end();
  }
}
