/** What memory is for, told by how long it lives: the step program frees a tensor as soon as nobody reads it any more. */

import type { Place } from './timeline.js';

export const CATEGORIES = [
  'frozen weights',
  'trained weights',
  'masters',
  'gradients',
  'optimizer',
  'boundaries',
  'kept activations',
  'head',
  'workspace',
  'communication',
  'input',
] as const;

export type Category = (typeof CATEGORIES)[number];

/** What is known of a block by the tensor that lies in it. */
export interface Known {
  readonly category: Category;
  readonly name: string;
}

export interface Life {
  readonly bytes: number;
  readonly born: Place;
  /** `null` for what is there at the end. */
  died: Place | null;
  /** The innermost operator, `aten::mm`. */
  readonly operator: string;
  /** Counts allocations and frees: that which made it, and that which freed it. */
  readonly from: number;
  until: number;
  /** Ranks call each other over it. */
  shared: boolean;
}

/** What the range of `KvCache` calls what it reserves. */
const CACHE = 'cache';

const BUFFERS = new Set(['aten::empty', 'aten::_to_copy', 'aten::zeros']);

export function categoryOf({ born, died, operator, shared }: Life): Category {
  if (shared || operator === 'patina::resize_storage') return 'communication';
  const { phase, segment } = born;
  const isOver = died !== null && died.phase !== 'update' && died.phase !== 'load';
  if (segment === CACHE) return 'kept activations';
  if (segment === '') return phase === 'update' ? 'workspace' : 'input';
  if (phase === 'backward' || phase === 'head') {
    // Sums are made empty or by conversion; what goes from segment to segment is a result.
    if (!isOver || BUFFERS.has(operator)) return 'gradients';
    if (died.segment === segment) return phase === 'head' ? 'head' : 'workspace';
    return 'boundaries';
  }
  if (died?.visit === born.visit) return 'workspace';
  return died?.segment === segment ? 'kept activations' : 'boundaries';
}

export function nameOf({ born, operator }: Life): string {
  if (born.segment === CACHE) return `keys and values, ${born.phase}`;
  const { phase, segment } = born;
  const what = operator.replace(/^\w+::/, '').replace(/_$/, '');
  return [what, segment === '' ? phase : `${phase} of ${segment}`].filter(Boolean).join(', ');
}
