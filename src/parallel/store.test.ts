import { createServer, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { freePort } from './launch.js';
import { Store } from './store.js';

let server: Store;
let store: Store;
beforeAll(async () => {
  server = await Store.open('127.0.0.1', 0, { server: true });
  store = await Store.open('127.0.0.1', server.port);
});
afterAll(() => {
  store.close();
  server.close();
});

it('keeps values for all', async () => {
  expect(await store.get('a')).toBeUndefined();
  // A value is sent and not waited for: whoever asks over the same connection comes behind it, others may come before.
  await server.set('a', 'größer\n');
  expect(await server.check(['a'])).toBe(true);
  expect(await store.get('a')).toBe('größer\n');
  await store.set('empty', '');
  expect(await store.check(['empty'])).toBe(true);
  expect(await server.get('empty')).toBe('');
  expect([await store.add('n', 2), await server.add('n', 3), await store.get('n')]).toEqual([
    2,
    5,
    '5',
  ]);
  expect([await store.check(['a', 'n']), await store.check(['a', 'b'])]).toEqual([true, false]);
  expect([await store.delete('a'), await store.delete('a')]).toEqual([true, false]);
  expect(await server.get('a')).toBeUndefined();
});

it('waits for what others set, while it answers other requests', async () => {
  const waited = store.wait(['late/1', 'late/2']);
  await store.set('late/1', '');
  expect(await store.check(['late/1'])).toBe(true);
  await server.set('late/2', '');
  await expect(waited).resolves.toBeUndefined();
});

it('names what nobody sets', async () => {
  await store.set('there', '');
  await expect(store.wait(['x', 'there', 'y'], { timeout: 50 })).rejects.toMatchObject({
    code: 'E_STORE_TIMEOUT',
    exitCode: 3,
    message: `the store at 127.0.0.1:${server.port} has not got x, y within 0.05 s`,
  });
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(store.wait(['x'], { signal })).rejects.toThrow();
});

it('is not there where nobody listens, and does not listen where somebody does', async () => {
  const port = await freePort();
  await expect(Store.open('127.0.0.1', port, { timeout: 300 })).rejects.toMatchObject({
    code: 'E_STORE',
    message: expect.stringMatching(
      new RegExp(`^nothing answers at 127\\.0\\.0\\.1:${port} \\(tried for 0\\.3 s\\)`),
    ) as string,
  });
  const signal = AbortSignal.timeout(200);
  await expect(Store.open('127.0.0.1', port, { signal })).rejects.toMatchObject({
    name: 'TimeoutError',
  });
  await expect(Store.open('127.0.0.1', server.port, { server: true })).rejects.toMatchObject({
    code: 'E_PORT_IN_USE',
  });
});

it('is not where somebody listens who says nothing', async () => {
  const silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const { port } = silent.address() as AddressInfo;
  await expect(Store.open('127.0.0.1', port, { timeout: 200 })).rejects.toMatchObject({
    code: 'E_STORE',
    message: `who listens at 127.0.0.1:${port} has not answered as the store of a job within 0.2 s`,
  });
  const signal = AbortSignal.timeout(200);
  await expect(Store.open('127.0.0.1', port, { signal })).rejects.toMatchObject({
    name: 'TimeoutError',
  });
  silent.close();
});

it('tells when it was closed, or its server is gone', async () => {
  const other = await Store.open('127.0.0.1', 0, { server: true });
  const client = await Store.open('127.0.0.1', other.port);
  other.close();
  await expect(other.get('a')).rejects.toMatchObject({ code: 'E_DISPOSED' });
  await expect(client.get('a')).rejects.toMatchObject({
    code: 'E_STORE',
    message: expect.stringMatching(/ cannot be asked: .* \(get a\)$/s) as string,
  });
  client.close();
});
