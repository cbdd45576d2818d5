/** Whether frequencies of positions were rounded: in bf16, 257 is 256, and a model loses its place in long texts. */

import type { SegmentedModel } from '../../models/index.js';
import { RotaryEmbedding } from '../../nn/index.js';
import { noGrad, scope } from '../../torch/index.js';
import type { Finding } from './finding.js';

export function inspectPositions(model: SegmentedModel): Finding | null {
  for (const [name, module] of model.namedModules()) {
    if (!(module instanceof RotaryEmbedding)) continue;
    const frequencies = module.namedBuffers().get('inv_freq')!;
    if (frequencies.device === 'meta' || frequencies.numel < 2) continue;
    const rounded = noGrad(() =>
      scope(() => {
        const wide = frequencies.to('float32');
        const lost = (dtype: 'bfloat16' | 'float16'): number =>
          wide.to(dtype).to('float32').sub(wide).abs().amax([]).item();
        return lost('bfloat16') === 0 || lost('float16') === 0;
      }),
    );
    if (!rounded && frequencies.dtype === 'float32') continue;
    return {
      cause: 'low-precision-positions',
      confidence: 0.9,
      message: `the frequencies of positions are rounded to 16 bits: far positions are taken for one another`,
      evidence: [
        `${name}.inv_freq is ${frequencies.dtype}, and all of its ${frequencies.numel} values fit 16 bits`,
      ],
      records: [],
      module: name,
      rank: null,
    };
  }
  return null;
}
