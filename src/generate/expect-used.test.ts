import { describe, expect, test } from 'vitest';

import { readLlavaConfig } from '../models/index.js';
import { fixtureJson } from '../models/testing.js';
import { expectUsed } from './expect-used.js';

describe('a choice that a model has made itself', () => {
  const json = fixtureJson('llama3', 'hf', 'config.json');
  const config = readLlavaConfig({
    file: 'config.json',
    json: { ...json, vision_feature_layer: -2, vision_feature_select_strategy: 'default' },
  });

  test('may be given as it is, or left out', () => {
    const fromStart = config.featureLayer;
    for (const featureLayer of [-2, fromStart, undefined]) {
      expectUsed(config, { featureLayer, featureSelect: 'default', projectorDepth: 2 });
    }
    expectUsed(undefined, { featureLayer: undefined });
  });

  test.each([
    [{ featureLayer: -1 }, "featureLayer -1: the model's own files say -2"],
    [{ featureSelect: 'full' }, "featureSelect full: the model's own files say default"],
    [{ projectorDepth: 3 }, "projectorDepth 3: the model's own files say 2"],
  ] as const)('is an error with another value: %j', (choices, message) => {
    expect(() => expectUsed(config, choices)).toThrow(
      expect.objectContaining({
        code: 'E_UNUSED_CHOICE',
        message: expect.stringContaining(message) as string,
      }) as Error,
    );
  });

  test('is an error for a decoder alone', () => {
    expect(() => expectUsed(undefined, { featureLayer: -2 })).toThrow(/no vision tower/);
  });
});
