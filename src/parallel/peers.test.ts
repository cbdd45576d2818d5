import { afterEach, describe, expect, test } from 'vitest';
import { DataError, EnvironmentError } from '../base/errors.js';
import { ALONE, onFirst, peersOf, together, type Peers } from './peers.js';
import { Store } from './store.js';
import { peersInMemory } from './testing.js';

const stores: Store[] = [];
afterEach(() => {
  for (const store of stores.splice(0).reverse()) store.close();
});

/** So many ranks in this process, each with a connection of its own; and what loses one. */
async function peersOverStore(size: number): Promise<{ peers: Peers[]; lose: () => void }> {
  const server = await Store.open('127.0.0.1', 0, { server: true });
  stores.push(server);
  let lose: () => void = () => undefined;
  const lost = new Promise<EnvironmentError>((resolve) => {
    lose = () =>
      resolve(new EnvironmentError('rank 1 is dead', { code: 'E_RANK_LOST', hint: 'See it.' }));
  });
  const peers: Peers[] = [];
  for (let rank = 0; rank < size; rank++) {
    const store = rank === 0 ? server : await Store.open('127.0.0.1', server.port);
    if (rank > 0) stores.push(store);
    peers.push(peersOf({ rank, size, store, lost, patience: 1_000 }, 'test'));
  }
  return { peers, lose };
}

const onAll = <T>(peers: readonly Peers[], step: (each: Peers) => Promise<T>) =>
  Promise.allSettled(peers.map(step));
const values = <T>(results: readonly PromiseSettledResult<T>[]): T[] =>
  results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });

describe('over a store', () => {
  test('each rank gets what all say, round after round', async () => {
    const { peers } = await peersOverStore(3);
    for (let round = 0; round < 4; round++) {
      const said = await onAll(peers, (each) => each.gather('round', { rank: each.rank, round }));
      const all = [0, 1, 2].map((rank) => ({ rank, round }));
      expect(values(said)).toEqual([all, all, all]);
    }
    // Only the last round is still there.
    const keys = [0, 1, 2, 3].map((round) => `peers/test/${round}/1`);
    expect(await Promise.all(keys.map((key) => stores[0]!.get(key)))).toEqual([
      ...[undefined, undefined, undefined],
      expect.any(String),
    ]);
  });

  test('ranks that meet for different things say so', async () => {
    const { peers } = await peersOverStore(2);
    const met = await onAll(peers, (each) => each.gather(each.rank === 0 ? 'save' : 'stop', null));
    for (const result of met) {
      expect(result).toMatchObject({ reason: { code: 'E_PEERS', exitCode: 3 } });
    }
  });

  test('the loss of a rank ends the wait for it', async () => {
    const { peers, lose } = await peersOverStore(2);
    const waiting = peers[0]!.gather('round', null);
    lose();
    await expect(waiting).rejects.toMatchObject({ code: 'E_RANK_LOST' });
  });
});

describe('a step together', () => {
  test('gives what all gave, or what the first gave', async () => {
    const peers = peersInMemory(3);
    const square = (each: Peers) => together(each, 'square', () => each.rank ** 2);
    expect(values(await onAll(peers, square))).toEqual(Array(3).fill([0, 1, 4]));
    let calls = 0;
    const first = (each: Peers) => onFirst(each, 'first', () => `rank ${each.rank}, ${++calls}`);
    expect(values(await onAll(peers, first))).toEqual(Array(3).fill('rank 0, 1'));
    expect(await onFirst(ALONE, 'alone', () => 5)).toBe(5);
  });

  test('that fails on one fails on all, which go on to the next one', async () => {
    const peers = peersInMemory(3);
    const failing = (each: Peers) =>
      together(each, 'read', () => {
        if (each.rank === 1) throw new DataError('no such file', { code: 'E_FILE', hint: 'Look.' });
      });
    const [first, second, third] = await onAll(peers, failing);
    const reason = { code: 'E_FILE', hint: 'Look.', exitCode: 4, name: 'DataError' };
    expect(second).toMatchObject({ reason: { ...reason, message: 'no such file' } });
    for (const other of [first, third]) {
      expect(other).toMatchObject({ reason: { ...reason, message: 'rank 1: no such file' } });
    }
    const unknown = (each: Peers) =>
      onFirst(each, 'unknown', () => Promise.reject(new TypeError('x is no function')));
    const [own, other] = await onAll(peers, unknown);
    expect(own).toMatchObject({ reason: { name: 'TypeError' } });
    expect(other).toMatchObject({
      reason: { code: 'E_RANK_FAILED', exitCode: 1, message: 'rank 0: x is no function' },
    });
  });
});
