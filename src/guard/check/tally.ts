/** Findings about records, counted by kind, with the first places of each. */
import type { RecordPlace } from '../../data/index.js';
import type { Finding, FindingPlace, Kind } from './finding.js';
import type { Mark } from './record-checker.js';

/** Places that are kept of each kind. */
const PLACES = 5;

interface Counted {
  readonly kind: Kind;
  count: number;
  last: number;
  readonly places: FindingPlace[];
}

export class Tally {
  readonly #kinds = new Map<string, Counted>();

  /** Marks come in the order of their records. */
  add({ record, id, kind, message }: Mark, place: RecordPlace): void {
    const key = `${kind.cause} ${kind.code} ${kind.severity}`;
    let counted = this.#kinds.get(key);
    if (counted === undefined) {
      counted = { kind, count: 0, last: -1, places: [] };
      this.#kinds.set(key, counted);
    }
    // A record with two broken pictures is one record.
    if (counted.last === record) return;
    counted.last = record;
    counted.count++;
    if (counted.places.length >= PLACES) return;
    const { file, line, record: number } = place;
    counted.places.push({ source: file, line, record: number, id, message });
  }

  /** Errors first, then by how many records they are about. */
  findings(): Finding[] {
    return [...this.#kinds.values()]
      .sort((a, b) => rank(a) - rank(b) || b.count - a.count)
      .map(({ kind, count, places }) => {
        const { cause, code, severity, fix } = kind;
        const { source, line, id, message } = places[0]!;
        return {
          ...{ type: 'finding', cause, code, severity, message, fix },
          ...{ source, line, id, count, places },
        };
      });
  }
}

function rank({ kind }: Counted): number {
  return kind.severity === 'error' ? 0 : 1;
}
