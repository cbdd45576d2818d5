/** Names of tensors from a layout to Patina's own, and back. */
import { IMAGE_NEWLINE, PART_NAMES, type Layout, type PartName, type Prefixes } from './tables.js';

/** What a name inside a part begins with, where a prefix alone would not tell parts apart. */
const INSIDE: Readonly<Record<PartName, RegExp>> = {
  vision:
    /^(embeddings\.(class|patch|position)_embedding|pre_layrnorm|encoder\.layers\.\d+|post_layernorm|head\.(probe|attention|layernorm|mlp))(\.|$)/,
  decoder: /^(embed_tokens|layers\.\d+|norm)\./,
  projector: /^linear_[1-9]\d{0,3}\./,
  head: /^(weight|bias|lora_)/,
};

/** The module of a parameter. */
export function moduleOf(name: string): string {
  return name.slice(0, name.lastIndexOf('.'));
}

/** The part that a name of Patina's own belongs to. */
export function partOf(name: string, own: Prefixes): PartName | undefined {
  if (name === IMAGE_NEWLINE && own.projector !== undefined) return 'projector';
  return PART_NAMES.find((part) => inside(name, own[part], part) !== undefined);
}

/** The name of Patina's own for a stored one; undefined when the layout has no such tensor. */
export function toOwnName(layout: Layout, stored: string, own: Prefixes): string | undefined {
  if (stored === layout.newline && own.projector !== undefined) return IMAGE_NEWLINE;
  for (const part of PART_NAMES) {
    const to = own[part];
    const from = layout.prefixes[part];
    if (to === undefined || from === undefined || !stored.startsWith(from)) continue;
    const rest = stored.slice(from.length);
    const name = part === 'projector' && layout.sequentialProjector ? fromIndex(rest) : rest;
    if (name !== undefined && INSIDE[part].test(name)) return to + name;
  }
  return undefined;
}

/** The name in the layout for one of Patina's own; undefined when the layout has no such part. */
export function toStoredName(layout: Layout, name: string, own: Prefixes): string | undefined {
  if (name === IMAGE_NEWLINE && own.projector !== undefined) return layout.newline;
  for (const part of PART_NAMES) {
    const to = layout.prefixes[part];
    const rest = inside(name, own[part], part);
    if (to === undefined || rest === undefined) continue;
    return to + (part === 'projector' && layout.sequentialProjector ? toIndex(rest) : rest);
  }
  return undefined;
}

function inside(name: string, prefix: string | undefined, part: PartName): string | undefined {
  if (prefix === undefined || !name.startsWith(prefix)) return undefined;
  const rest = name.slice(prefix.length);
  return INSIDE[part].test(rest) ? rest : undefined;
}

/** `2.weight` to `linear_2.weight`: activations take the odd places. `weight` alone is a projector of one layer. */
function fromIndex(rest: string): string | undefined {
  if (/^(weight|bias)$/.test(rest)) return `linear_1.${rest}`;
  const [, index, leaf] = /^(0|[1-9]\d{0,3})\.(.+)$/.exec(rest) ?? [];
  if (index === undefined || Number(index) % 2 === 1) return undefined;
  return `linear_${Number(index) / 2 + 1}.${leaf!}`;
}

function toIndex(rest: string): string {
  return rest.replace(/^linear_(\d+)/, (_, number: string) => String(2 * Number(number) - 2));
}
