/** Recipes in YAML and JSON (which YAML contains), with the line of every field. */
import { isMap, isScalar, LineCounter, parseDocument, type Document, type Node } from 'yaml';

import type { Path } from './explain.js';
import { RecipeError } from './recipe-error.js';

export interface LocatedRecipe {
  value: unknown;
  /** `file:line:column` of the value at `path`, or of its key; of what encloses it where there is none. */
  locate(path: Path, key?: boolean): string;
}

/** @throws RecipeError for a text that is not YAML, with the place of the fault. */
export function parseYaml(text: string, file: string): LocatedRecipe {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const issues = document.errors.map(({ message, pos }) => ({
    path: '',
    message,
    origin: at(pos[0]),
  }));
  if (issues.length > 0) throw new RecipeError(issues);
  return {
    value: valueOf(document, file),
    locate: (path, key = false) => at(offsetOf(document, path, key)),
  };
}

function valueOf(document: Document.Parsed, file: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    // Aliases that multiply beyond measure.
    const message = error instanceof Error ? error.message : String(error);
    throw new RecipeError([{ path: '', message, origin: file }], error);
  }
}

function offsetOf(document: Document.Parsed, path: Path, key: boolean): number {
  if (key) {
    const section = document.getIn(path.slice(0, -1), true);
    const pair = isMap(section)
      ? section.items.find((item) => isScalar(item.key) && String(item.key.value) === path.at(-1))
      : undefined;
    if (isScalar(pair?.key) && pair.key.range) return pair.key.range[0];
  }
  for (let length = path.length; length >= 0; length--) {
    const node = (
      length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
    ) as Node | null | undefined;
    if (node?.range) return node.range[0];
  }
  return 0;
}
