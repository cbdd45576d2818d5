/** For a test: how far off the gradients are that products in fp8 give, on a model's own gradients. */
import { loadChatModel } from '../../generate/index.js';
import { makeBatch } from '../../models/index.js';
import { Fp8Form, linearsOf, probe } from '../../nn/index.js';
import {
  enableGrad,
  fp8ProjectBackward,
  grad,
  noGrad,
  ones,
  scope,
  type Tensor,
} from '../../torch/index.js';

const FORMATS = ['float8_e4m3fn', 'float8_e5m2'] as const;

/**
 * Root mean square of the difference from the exact product with what the codes of the weight stand for, as a share of that product,
 * over all matrices of the decoder's blocks, for the loss of predicting texts.
 */
export async function gradientErrors(
  path: string,
  texts: readonly string[],
): Promise<Readonly<Record<(typeof FORMATS)[number], number>>> {
  const { model, format } = await loadChatModel(path, { dtype: 'float32' });
  const layers = new Map(
    linearsOf(model).filter(([name]) => name.startsWith('model.language_model.layers')),
  );
  const sums = { float8_e4m3fn: 0, float8_e5m2: 0 };
  let products = 0;
  const add = (weight: Tensor, g: Tensor): void => {
    const { codes, scales } = new Fp8Form().quantise(weight);
    const exact = g.to('float64').matmul(codes.to('float64').mul(scales));
    for (const type of FORMATS) {
      const off = fp8ProjectBackward(g, [codes], [scales], type).sub(exact);
      sums[type] += off.square().sum(null).item() / exact.square().sum(null).item();
    }
    products++;
  };
  try {
    for (const text of texts) {
      scope(() => {
        const inputIds = format.tokenizer.encode(text);
        const batch = makeBatch([{ inputIds, labels: inputIds, images: [] }], model.input);
        const inputs = model.inputs(batch);
        const results = new Map<string, Tensor>();
        using _ = probe(layers, ({ name, run }) => {
          const result = run() as Tensor;
          results.set(name, result);
          return result;
        });
        const gradients = enableGrad(() => {
          let x: Tensor | null = null;
          for (const segment of model.segments) {
            if (segment.visual) continue;
            x = segment.forward(x, inputs);
            if (!x.requiresGrad) x = x.detach().requiresGrad_();
          }
          const gradient = { factor: ones([]), hidden: true, parameters: [] };
          const { inputGradient } = model.head.losses(x!, batch.supervised, { gradient });
          return grad([x!], [...results.values()], [inputGradient!]);
        });
        noGrad(() => {
          [...results.keys()].forEach((name, i) => {
            add(layers.get(name)!.base.dense(), gradients[i]!.flatten(0, -2));
          });
        });
      });
    }
  } finally {
    model.dispose();
  }
  const mean = (type: (typeof FORMATS)[number]): number => Math.sqrt(sums[type] / products);
  return { float8_e4m3fn: mean('float8_e4m3fn'), float8_e5m2: mean('float8_e5m2') };
}
