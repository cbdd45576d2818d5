import fc from 'fast-check';
import { expect, it } from 'vitest';

import { firstHost } from './nodelist.js';

it.each([
  ['login1', 'login1'],
  ['gpu[01-03,07],login2', 'gpu01'],
  ['gpu[7,01-03]', 'gpu7'],
  ['rack[2-3]-node[08-15]', 'rack2-node08'],
  ['a1,b[2-4]', 'a1'],
  ['node-[0001-1024].cluster.example', 'node-0001.cluster.example'],
])('finds the first host of %s', (list, host) => {
  expect(firstHost(list, 'SLURM_JOB_NODELIST')).toBe(host);
});

it('finds the first host of any list', () => {
  const number = fc.integer({ min: 0, max: 9999 }).map((value) => `${value}`.padStart(4, '0'));
  const range = fc.oneof(
    number,
    fc.tuple(number, number).map(([from, to]) => `${from}-${to}`),
  );
  const name = fc.stringMatching(/^[a-z][a-z0-9.-]{0,6}$/);
  const part = fc.tuple(name, fc.array(range, { maxLength: 3 }));
  const host = fc.array(part, { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(fc.array(host, { minLength: 1, maxLength: 4 }), (hosts) => {
      const list = hosts.map((parts) =>
        parts.map(([text, ranges]) => text + (ranges.length ? `[${ranges.join()}]` : '')).join(''),
      );
      const first = hosts[0]!.map(([text, ranges]) => text + (ranges[0] ?? '').split('-')[0]!);
      expect(firstHost(list.join(), 'SLURM_JOB_NODELIST')).toBe(first.join(''));
    }),
  );
});

it.each(['', ',a', 'gpu[1-', 'gpu]1[', 'gpu[]', 'gpu[a-b]', 'gpu[1-2]]', 'gpu[[1]]', 'a b'])(
  "refuses '%s' and names the variable",
  (list) => {
    expect(() => firstHost(list, 'SLURM_NODELIST')).toThrow(
      expect.objectContaining({
        code: 'E_RANKS',
        message: `SLURM_NODELIST='${list}' is no list of hosts`,
      }) as Error,
    );
  },
);
