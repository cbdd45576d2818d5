import { expect, test } from 'vitest';
import { scope } from '../torch/index.js';
import { activation } from './activations.js';
import { expectCase, layerCases } from './testing.js';

test.each(layerCases('activations'))('matches PyTorch: $name', (layerCase) => {
  scope(() => {
    const x = layerCase.leaf('x');
    expectCase(layerCase, [['x', x]], { y: activation(layerCase.name)(x) });
  });
});

test('an unknown name is refused with the names that there are', () => {
  for (const name of ['swish', 'toString']) {
    expect(() => activation(name)).toThrow(
      expect.objectContaining({
        code: 'E_ACTIVATION',
        hint: expect.stringContaining('gelu') as string,
      }),
    );
  }
});
