/** A record that a diagnosis names, as a page shows it: its turns, and its pictures as they are. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import sharp from 'sharp';
import type { Recipe } from '../../config/index.js';
import { fitImage } from '../../data/image/fit.js';
import { decodeSource } from '../../data/loading/load-image.js';
import { parseRecord } from '../../data/records/parse-record.js';
import { openCatalog } from '../../data/sources/catalog.js';
import { findFiles } from '../../data/sources/find-files.js';
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

/** @param sources of the run that the record is of */
export async function showRecord(
  record: GuardedRecord,
  sources: Recipe['data']['sources'],
): Promise<ShownRecord> {
  try {
    const images = await imagesOf(record, sources);
    const [source] = await openCatalog([{ path: record.source, weight: 1, images }]);
    const [file] = source!.files;
    if (record.record > file!.table.count) {
      return { record, text: 'It is not there any more.', pictures: [] };
    }
    const table = await openTable(file!.table);
    try {
      const read = await table.read(record.record - 1);
      if (!read.ok) return { record, text: read.problem.message, pictures: [] };
      const pictures = await picturesOf(read.json, file!.images);
      return { record, text: indented(read.json), pictures };
    } finally {
      await table.close();
    }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { record, text, pictures: [] };
  }
}

/** What paths of the record's pictures start from, as far as its source is still on this machine. */
async function imagesOf(
  { source: path }: GuardedRecord,
  sources: Recipe['data']['sources'],
): Promise<string | undefined> {
  for (const source of sources) {
    if (!existsSync(source.path)) continue;
    const { files, images } = await findFiles(source);
    if (files.some((file) => resolve(file) === resolve(path))) return images;
  }
  return undefined;
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
    const image = await decodeSource(source, { reading: 'turned', folder }).catch(() => null);
    if (image === null) continue;
    const raw = { width: SIDE, height: SIDE, channels: 3 } as const;
    const png = await sharp(fitImage(image, fit).data, { raw }).png().toBuffer();
    pictures.push(`data:image/png;base64,${png.toString('base64')}`);
  }
  return pictures;
}
