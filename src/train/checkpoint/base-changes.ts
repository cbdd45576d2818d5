/** In which form a run that goes on holds frozen weights, where the checkpoint was trained over them in another. */

import type { BaseForm, BasePart } from '../../models/index.js';
import { Fp8Form, Nf4 } from '../../nn/index.js';
import { type Provenance, readProvenance } from '../../models/provenance/provenance.js';
import { formName } from '../prepare/bases.js';

/**
 * The changes in sentences. Adapters go on as they are: what they have learnt over one form is a little off over another.
 *
 * @throws DataError those of `readProvenance`
 */
export async function baseChanges(
  checkpoint: string,
  { bases: now = {} }: Pick<Provenance, 'bases'>,
): Promise<string[]> {
  const written = await readProvenance(checkpoint);
  if (written === undefined) return [];
  const { bases: before = {} } = written;
  const parts: readonly BasePart[] = ['vision', 'decoder'];
  return parts.flatMap((part) => {
    const was = described(before[part]);
    const is = described(now[part]);
    if (was === is) return [];
    return [`${part}: frozen weights were held ${was}, and are held ${is} from here on`];
  });
}

function described(form: BaseForm | undefined): string {
  if (form === undefined) return 'as they are stored';
  return `in ${formName(form.form === 'fp8' ? new Fp8Form() : new Nf4(form))}`;
}
