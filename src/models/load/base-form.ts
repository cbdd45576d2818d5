/**
 * In which form the frozen weights of a part are held: as they are stored, or quantised when they are read. That is so of the
 * matrices of a part's blocks; its embeddings, norms and biases, the head, and what lies on top of a base stay as they are.
 */
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { moduleOf, partOf } from '../../formats/layouts/rename.js';
import type { Prefixes } from '../../formats/layouts/tables.js';
import type { StoredForm, StoredTensor } from '../../formats/stored.js';

/** A part that can have it. */
export type BasePart = 'vision' | 'decoder';

export type BaseForm =
  { readonly form: 'nf4'; readonly doubleQuantised: boolean } | { readonly form: 'fp8' };

export type BaseOption = BaseForm & {
  /** Modules that stay as they are stored. @default none */
  readonly except?: (module: string) => boolean;
};

/** By part; one that is left out is held as it is stored. */
export type BaseForms<Form extends BaseForm = BaseForm> = Readonly<
  Partial<Record<BasePart, Form | undefined>>
>;

/**
 * Marks the tensors that are to be quantised. What is stored in few bits already stays so.
 *
 * @param beneath the tensors of the base
 */
export function inForms(
  tensors: ReadonlyMap<string, StoredTensor>,
  beneath: ReadonlySet<StoredTensor>,
  forms: BaseForms<BaseOption>,
  own: Prefixes,
): ReadonlyMap<string, StoredTensor> {
  const change = (name: string, tensor: StoredTensor): StoredTensor => {
    const part = partOf(name, own);
    const form = part === 'vision' || part === 'decoder' ? forms[part] : undefined;
    if (form === undefined || tensor.form !== undefined || !beneath.has(tensor)) return tensor;
    if (!isMatrixOfBlock(name, tensor) || form.except?.(moduleOf(name)) === true) return tensor;
    return { ...tensor, form: storedForm(form) };
  };
  return new Map([...tensors].map(([name, tensor]) => [name, change(name, tensor)]));
}

function storedForm(form: BaseForm): StoredForm {
  return form.form === 'nf4'
    ? { name: 'nf4', doubleQuantised: form.doubleQuantised }
    : { name: 'fp8' };
}

/** Whether a tensor is the weight of a linear layer in a block. */
export function isMatrixOfBlock(name: string, { shape }: StoredTensor): boolean {
  return /\.layers\.\d+\..+\.weight$/.test(name) && shape.length === 2 && !isAdapterTensor(name);
}
