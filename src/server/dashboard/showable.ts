/** Which events can be shown: those with the lists and objects of their kind, through which the page goes. */
import { z } from 'zod';

import type { LoggedEvent } from '../../train/run/logs.js';

const texts = z.array(z.string());
const place = z.looseObject({ source: z.string(), record: z.number() });

const KINDS: ReadonlyMap<string, z.ZodType> = new Map<string, z.ZodType>([
  ['start', z.looseObject({ statements: texts, table: z.array(z.looseObject({})) })],
  ['probes', z.looseObject({ answers: z.array(z.looseObject({ images: texts })) })],
  ['score', z.looseObject({ interval: z.array(z.unknown()).length(2) })],
  ['diagnosis', z.looseObject({ evidence: texts, records: z.array(place) })],
  ['bad-record', z.looseObject({ record: z.looseObject({ file: z.string() }) })],
]);

export function isShowable(line: unknown): line is LoggedEvent {
  if (typeof line !== 'object' || line === null || !('type' in line)) return false;
  const { type } = line;
  return typeof type === 'string' && (KINDS.get(type)?.safeParse(line).success ?? true);
}
