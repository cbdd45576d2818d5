import { afterAll, expect, test } from 'vitest';
import { memoryPolicies } from './memory-policy.js';
import { ghostLlava } from './testing.js';

const model = ghostLlava();
const { segments } = model;
afterAll(() => model.dispose());

/** Names of the segments by what they keep. */
const byPolicy = (choice: Parameters<typeof memoryPolicies>[1]): Record<string, string[]> => {
  const names: Record<string, string[]> = {};
  memoryPolicies(segments, choice).forEach((policy, i) =>
    (names[policy] ??= []).push(segments[i]!.name),
  );
  return names;
};

test('kept blocks are the last ones of the decoder, and nothing else', () => {
  expect(byPolicy({ keepBlocks: 1 }).keep).toEqual(['decoder.1']);
  expect(byPolicy({ keepBlocks: 2 }).keep).toEqual(['decoder.0', 'decoder.1']);
  expect(byPolicy({ keepBlocks: 0 }).keep).toBeUndefined();
});

test('each part has a policy of its own, and the tower blocks to keep', () => {
  const names = byPolicy({
    policy: { vision: 'offload', projector: 'keep' },
    keepBlocks: { vision: 1, decoder: 1 },
  });
  expect(names).toEqual({
    offload: ['vision.embeddings', 'vision.0'],
    keep: ['vision.1', 'projector', 'decoder.1'],
    recompute: ['embedding', 'decoder.0'],
  });
});

test('levels between are for decoder blocks, counted from the top; all else recomputes', () => {
  expect(byPolicy({ policy: 'products' })).toEqual({
    products: ['decoder.0', 'decoder.1'],
    recompute: ['vision.embeddings', 'vision.0', 'vision.1', 'projector', 'embedding'],
  });
  const { keep, attention } = byPolicy({ keepBlocks: { decoder: { keep: 1, attention: 1 } } });
  expect([keep, attention]).toEqual([['decoder.1'], ['decoder.0']]);
  const levels = { keep: 1, products: 1, attention: 1 };
  expect(() => memoryPolicies(segments, { keepBlocks: { decoder: levels } })).toThrow(
    /memory.keepBlocks.decoder is 3; the decoder has 2 blocks/,
  );
});

test('more blocks than the part has are refused, by the name of the field', () => {
  expect(() => memoryPolicies(segments, { keepBlocks: 3 })).toThrow(
    expect.objectContaining({
      code: 'E_POLICY',
      message: 'memory.keepBlocks is 3; the decoder has 2 blocks',
    }) as Error,
  );
  // Three layers, of which the last one is above the features that are used.
  expect(() => memoryPolicies(segments, { keepBlocks: { vision: 3 } })).toThrow(
    /memory.keepBlocks.vision is 3; .* has 2 blocks/,
  );
});
