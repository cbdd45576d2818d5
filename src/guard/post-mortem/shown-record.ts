/** A record that a diagnosis names, as a page shows it: its turns, and its pictures as they are. */

import { resolve } from 'node:path';
import sharp from 'sharp';
import { loadImage } from '../../data/loading/load-image.js';
import { parseRecord } from '../../data/records/parse-record.js';
import { openCatalog } from '../../data/sources/catalog.js';
import { openTable } from '../../data/sources/open-table.js';
import type { GuardedRecord } from '../../train/events.js';

export interface ShownRecord {
  readonly record: GuardedRecord;
  /** Its JSON, indented; or why it cannot be shown. */
  readonly text: string;
  /** `data:` addresses. */
  readonly pictures: readonly string[];
}

/** Longest text that is shown. */
const LONGEST = 8000;

export async function showRecord(record: GuardedRecord): Promise<ShownRecord> {
  try {
    const [source] = await openCatalog([{ path: record.source, weight: 1 }]);
    const file = source!.files.find(({ table }) => resolve(table.path) === resolve(record.source))!;
    const table = await openTable(file.table);
    try {
      for (let i = 0; i < file.table.count; i++) {
        const place = table.place(i);
        if ((place.line ?? place.record) !== record.line) continue;
        const read = await table.read(i);
        if (!read.ok) return { record, text: read.problem.message, pictures: [] };
        return {
          record,
          text: indented(read.json),
          pictures: await picturesOf(read.json, file.images),
        };
      }
    } finally {
      await table.close();
    }
    return { record, text: 'It is not there any more.', pictures: [] };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { record, text, pictures: [] };
  }
}

function indented(json: unknown): string {
  const text = JSON.stringify(
    json,
    (_, value: unknown) => (value instanceof Uint8Array ? `${value.length} bytes` : value),
    2,
  );
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} ...` : text;
}

/** Pixels along each side. */
const SIDE = 336;

async function picturesOf(json: unknown, folder: string): Promise<string[]> {
  const parsed = parseRecord(json);
  if (!parsed.ok) return [];
  const pictures: string[] = [];
  for (const source of parsed.record.images) {
    // One that cannot be decoded is what the diagnosis is about, perhaps.
    const fit = { size: SIDE, mode: 'pad', background: [127, 127, 127] } as const;
    const rgb = await loadImage(source, { reading: 'turned', folder, ...fit }).catch(() => null);
    if (rgb === null) continue;
    const raw = { width: SIDE, height: SIDE, channels: 3 } as const;
    const png = await sharp(rgb, { raw }).png().toBuffer();
    pictures.push(`data:image/png;base64,${png.toString('base64')}`);
  }
  return pictures;
}
