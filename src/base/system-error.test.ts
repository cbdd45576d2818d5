import { expect, test } from 'vitest';

import { errorCode, writeError } from './system-error.js';

function fault(code: string): Error {
  return Object.assign(new Error(`${code}: it failed`), { code });
}

test('errorCode reads the code of system errors and nothing else', () => {
  expect(errorCode(fault('ENOENT'))).toBe('ENOENT');
  expect(errorCode(new Error('x'))).toBeUndefined();
  expect(errorCode({ code: 'ENOENT' })).toBeUndefined();
});

test.each([
  ['ENOSPC', 'E_DISK_FULL'],
  ['EDQUOT', 'E_DISK_FULL'],
  ['EACCES', 'E_UNWRITABLE'],
  ['EROFS', 'E_UNWRITABLE'],
  ['ENOTDIR', 'E_UNWRITABLE'],
])('writeError: %s is %s, names the path and keeps the cause', (system, code) => {
  const cause = fault(system);
  const error = writeError(cause, '/runs/a', 'write the checkpoint');
  expect(error).toMatchObject({ code, cause, exitCode: 3 });
  expect((error as Error).message).toContain('could not write the checkpoint at /runs/a'.slice(6));
});

test('writeError hands back what is no fault of disk or rights', () => {
  const error = new RangeError('other');
  expect(writeError(error, '/x', 'write')).toBe(error);
});
