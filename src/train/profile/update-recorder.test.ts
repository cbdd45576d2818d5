import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startProfile } from '../../torch/index.js';
import { UpdateRecorder } from './update-recorder.js';

test('a profile that cannot be written has ended: another may begin', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'patina-profile-'));
  try {
    writeFileSync(join(folder, 'file'), '');
    const recorder = new UpdateRecorder('cpu');
    await expect(recorder.stop(join(folder, 'file', 'trace.json.gz'))).rejects.toThrow(
      /write the trace of the profile/,
    );
    startProfile('cpu').discard();
    recorder.discard();
    const next = startProfile('cpu');
    next.discard();
    next.discard();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
