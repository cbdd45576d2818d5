/** LLaVA's questions of POPE have no labels: those of a kind lie, in the same order, in POPE's own file of that kind. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { dataError, readRows, type Row } from './rows.js';

/**
 * Rows with the labels of `coco_pope_KIND.json` beside the file, or in its folder `coco`; as they are where they have labels or no kind.
 *
 * @throws DataError `E_EVAL_DATA` where such a file has another number of questions, or other ones
 */
export async function withPopeLabels(rows: readonly Row[], file: string): Promise<Row[]> {
  const labels = new Map<string, Row[]>();
  const labelled: Row[] = [];
  for (const row of rows) {
    const { category: kind, label, answer } = row.values;
    if (label !== undefined || answer !== undefined || typeof kind !== 'string') return [...rows];
    if (!labels.has(kind)) {
      const source = labelFile(kind, file);
      if (source === undefined) return [...rows];
      labels.set(kind, await readRows(source));
    }
    const own = labels.get(kind)!.shift();
    if (own === undefined || !String(row.values['text']).startsWith(String(own.values['text']))) {
      throw dataError(
        `${row.where} is another question than ${own?.where ?? `the labels of ${kind} have`}.`,
      );
    }
    labelled.push({ ...row, values: { ...row.values, label: own.values['label'] } });
  }
  return labelled;
}

function labelFile(kind: string, file: string): string | undefined {
  const name = `coco_pope_${kind}.json`;
  return [join(dirname(file), name), join(dirname(file), 'coco', name)].find((path) =>
    existsSync(path),
  );
}
