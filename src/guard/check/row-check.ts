/** Rows of the embeddings and of the head: those that the data use, and that look like none that was trained. */
import { formatNumber } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import type { RecordPlace } from '../../data/index.js';
import type { Tokenizer } from '../../text/index.js';
import type { Finding, FindingPlace } from './finding.js';
import type { ModelTensor } from './open-hollow.js';
import type { RowSink } from './scan-tensor.js';

export interface RowCheckOptions {
  readonly recipe: Pick<Recipe, 'train'>;
  readonly tokenizer: Tokenizer;
  /** See `CheckSpec`. */
  readonly firstUse: Int32Array | null;
  place(record: number): RecordPlace;
}

/** A row's norm over the middle one. */
const UNTRAINED = 0.02;
const WILD_ROW = 100;

/** Rows that the data use. */
export function rowFindings(
  { name, stored }: ModelTensor,
  rows: Rows,
  { recipe, tokenizer, firstUse, place }: RowCheckOptions,
): Finding[] {
  if (firstUse === null) return [];
  const middle = rows.middleNorm();
  if (!(middle > 0)) return [];
  const used = (id: number): boolean => (firstUse[id] ?? 0) > 0;
  const odd: { id: number; why: string; severity: 'error' | 'warning' }[] = [];
  const isTrained = recipe.train.decoder === 'full';
  for (let id = 0; id < rows.norms.length; id++) {
    if (!used(id)) continue;
    const norm = rows.norms[id]!;
    const share = norm / middle;
    if (!Number.isFinite(norm) || share > WILD_ROW) {
      odd.push({
        id,
        why: `its row is ${figure(share)} times as large as others`,
        severity: 'error',
      });
    } else if (share < UNTRAINED || rows.alike(id) > 1) {
      const why =
        share < UNTRAINED ? 'its row is nearly 0' : `its row is that of ${rows.alike(id)} others`;
      odd.push({
        id,
        why: `${why}, as of tokens that were never trained`,
        severity: isTrained ? 'warning' : 'error',
      });
    }
  }
  if (odd.length === 0) return [];
  odd.sort((a, b) => firstUse[a.id]! - firstUse[b.id]!);
  const places = odd.slice(0, 5).map(({ id, why }): FindingPlace => {
    const { file, line, record } = place(firstUse[id]! - 1);
    const token = JSON.stringify(tokenizer.tokenOf(id) ?? '');
    return {
      source: file,
      line,
      record,
      id: null,
      message: `token ${id} (${token}): ${why} (${name})`,
    };
  });
  const severity = odd.some((each) => each.severity === 'error') ? 'error' : 'warning';
  const { source, line, message } = places[0]!;
  return [
    {
      ...{ type: 'finding', cause: 'untrained-token-rows', code: 'rows', severity, message },
      fix: `Leave such tokens out of the data or the template, train the embeddings too (\`train.decoder.lora.modulesToSave: ["*embed_tokens", "lm_head"]\`), or mend the rows in ${stored.file}.`,
      ...{ source, line, id: null, count: odd.length, places },
    },
  ];
}

function figure(value: number): string {
  return Number.isFinite(value) ? formatNumber(value) : 'infinitely many';
}

/** Facts of the rows of a matrix. */
export class Rows implements RowSink {
  readonly norms: Float64Array;
  readonly #counts = new Map<number, number>();

  constructor(rows: number) {
    this.norms = new Float64Array(rows);
  }

  /** Adds squares of the next elements of a matrix so wide, the first of which has index `at`. */
  add(values: Float32Array | Float64Array, at: number, width: number): void {
    for (let from = 0; from < values.length;) {
      const row = Math.floor((at + from) / width);
      const end = Math.min(values.length, (row + 1) * width - at);
      let sum = 0;
      for (; from < end; from++) sum += values[from]! * values[from]!;
      this.norms[row]! += sum;
    }
  }

  /** Once all squares are summed. */
  finish(): void {
    this.norms.forEach((square, i) => {
      this.norms[i] = Math.sqrt(square);
      this.#counts.set(this.norms[i], (this.#counts.get(this.norms[i]) ?? 0) + 1);
    });
  }

  middleNorm(): number {
    const sorted = this.norms.filter(Number.isFinite).sort();
    return sorted[Math.floor(sorted.length / 2)] ?? 0;
  }

  /** Other rows with this very norm, in 53 bits. */
  alike(id: number): number {
    return this.#counts.get(this.norms[id]!)! - 1;
  }
}
