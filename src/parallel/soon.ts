/** Waiting for something that may never come. */

import { setTimeout as sleep } from 'node:timers/promises';

/** The value of a promise that settles within so many milliseconds. */
export async function soon<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
  const timer = new AbortController();
  try {
    return await Promise.race([promise, sleep(milliseconds, undefined, { signal: timer.signal })]);
  } finally {
    timer.abort();
  }
}
