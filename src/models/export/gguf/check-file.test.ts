import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, expect, test } from 'vitest';

import { readGguf } from '../../../formats/gguf/read.js';
import { writeGguf } from '../../../formats/gguf/write.js';
import type { GgmlTypeName } from '../../../formats/gguf/types.js';
import { liveTensors } from '../../../torch/index.js';
import { temporaryFolder } from '../../testing.js';
import { checkGgufFile } from './check-file.js';
import { ggufSource } from './encode-tensor.js';
import type { GgufPlan } from './tensor-plan.js';

const root = temporaryFolder();
afterAll(() => rmSync(root, { recursive: true }));

const options = { where: 'here', adapters: [], allow: [], signal: undefined };
const plan = (name: string, type: GgmlTypeName, heads?: number): GgufPlan => {
  const values = Float32Array.from({ length: 8 * 64 }, (_, i) => Math.sin(i * i) * (1 + (i % 7)));
  return { name, type, shape: [8, 64], from: { values }, heads };
};
const PLANS = [
  plan('a', 'f32'),
  plan('b', 'f16', 2),
  plan('c', 'bf16'),
  plan('d', 'q8_0', 1),
  plan('e', 'q4_0'),
];

async function written(name: string): Promise<string> {
  const path = join(root, name);
  const sources = PLANS.map((each) => ggufSource(each, options));
  await writeGguf(path, new Map(), sources);
  return path;
}

test('a file as it was written passes', async () => {
  const path = await written('whole');
  const live = liveTensors();
  const { tensors, relativeErrors } = await checkGgufFile(path, PLANS, options);
  expect(liveTensors()).toBe(live);
  expect(tensors).toBe(5);
  expect(Object.keys(relativeErrors)).toEqual(['q8_0', 'q4_0']);
  expect(relativeErrors.q8_0).toBeLessThan(0.01);
});

test.each(PLANS.map(({ name }) => name))('a bit of %s that fell over is found', async (name) => {
  const path = await written(`bit-${name}`);
  const place = (await readGguf(path)).tensors.find((each) => each.name === name)!;
  const bytes = readFileSync(path);
  // The high bit of a number's exponent, or of a code of a block.
  const at = place.offset + { f32: 3, f16: 1, bf16: 1, q8_0: 2, q4_0: 2 }[place.type];
  bytes[at] = bytes[at]! ^ (place.type === 'q4_0' ? 0x08 : 0x40);
  writeFileSync(path, bytes);
  await expect(checkGgufFile(path, PLANS, options)).rejects.toMatchObject({
    code: 'E_GGUF_CHECK',
    message: `${path} does not hold what was written: "${name}".`,
  });
});

test('tensors that are missing, unknown, of another type or in another order of rows are found', async () => {
  const path = await written('others');
  for (const [plans, name] of [
    [[...PLANS, plan('f', 'f32')], 'f'],
    [PLANS.slice(1), 'a'],
    [[{ ...PLANS[0]!, shape: [64, 8] }, ...PLANS.slice(1)], 'a'],
    [[PLANS[0]!, plan('b', 'f16', 1), ...PLANS.slice(2)], 'b'],
    [[...PLANS.slice(0, 3), plan('d', 'q8_0'), PLANS[4]!], 'd'],
  ] as const) {
    await expect(checkGgufFile(path, plans, options)).rejects.toMatchObject({
      message: `${path} does not hold what was written: "${name}".`,
    });
  }
});
