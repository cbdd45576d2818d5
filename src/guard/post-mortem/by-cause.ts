/** The diagnoses of a run by cause: what goes wrong again and again is told once. */
import type { DiagnosisEvent, GuardedRecord } from '../../train/events.js';

/** A cause, and every time that it was told. */
export interface Told {
  /** As it was told first, with the records of all times. */
  readonly diagnosis: DiagnosisEvent;
  readonly updates: readonly number[];
}

/** In the order in which causes came. */
export function byCause(diagnoses: readonly DiagnosisEvent[]): Told[] {
  const causes = new Map<string, DiagnosisEvent[]>();
  for (const each of diagnoses) causes.set(each.cause, [...(causes.get(each.cause) ?? []), each]);
  return [...causes.values()].map((all) => ({
    diagnosis: { ...all[0]!, records: distinct(all.flatMap(({ records }) => records)) },
    updates: [...new Set(all.map(({ update }) => update))],
  }));
}

function distinct(records: readonly GuardedRecord[]): GuardedRecord[] {
  return [
    ...new Map(records.map((each) => [JSON.stringify([each.source, each.record]), each])).values(),
  ];
}
