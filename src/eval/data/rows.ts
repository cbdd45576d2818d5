/** Rows of a file of questions: TSV, JSON Lines, a JSON array, or an object of objects by their ids. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';

import { DataError } from '../../base/errors.js';
import { readJsonLines } from '../../base/json-lines.js';
import { parseJson } from '../../base/json-text.js';
import { shortText } from '../../base/short-text.js';
import { errorCode } from '../../base/system-error.js';
import { type FarField, readTsv } from './tsv.js';

export interface Row {
  readonly values: Readonly<Record<string, unknown>>;
  /** File and line or place. */
  readonly where: string;
}

export function isFar(value: unknown): value is FarField {
  return typeof value === 'object' && value !== null && 'offset' in value && 'file' in value;
}

/**
 * @throws DataError `E_EVAL_DATA` for what is missing or of no known form; `E_JSON_LINE`
 */
export async function readRows(file: string): Promise<Row[]> {
  try {
    const rows = /\.tsv$/i.test(file) ? await tsvRows(file) : await jsonRows(file);
    if (rows.length === 0) throw dataError(`${file} has no questions.`);
    return rows;
  } catch (cause) {
    if (errorCode(cause) === undefined || cause instanceof DataError) throw cause;
    throw dataError(`${file} cannot be read (${errorCode(cause)!}).`, cause);
  }
}

export function dataError(message: string, cause?: unknown): DataError {
  return new DataError(message, {
    code: 'E_EVAL_DATA',
    hint: 'docs/evaluation.md says what the files of each task look like and where they are had.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** What pandas takes for a missing value. */
const MISSING = new Set(
  '|#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null'.split(
    '|',
  ),
);

async function tsvRows(file: string): Promise<Row[]> {
  const rows: Row[] = [];
  let names: string[] | undefined;
  for await (const { fields, line, torn } of readTsv(file)) {
    if (names === undefined) {
      names = fields.map((name) => (typeof name === 'string' ? name.replace(/^\ufeff/, '') : ''));
      continue;
    }
    const where = `${file}:${line}`;
    if (torn === 'quotation') {
      throw dataError(`${where} has a quotation mark that the rest of the file does not close.`);
    }
    if (torn === 'line' && fields.length < names.length) {
      const has = `${fields.length} of ${names.length} fields`;
      throw dataError(`${where} is torn: the file ends there, after ${has}.`);
    }
    if (fields.length > names.length) {
      throw dataError(`${where} has ${fields.length} fields, the first line has ${names.length}.`);
    }
    const values: Record<string, unknown> = {};
    fields.forEach((field, i) => {
      const name = names![i]!;
      if (typeof field === 'string' && MISSING.has(field)) return;
      values[name] = name === 'index' && /^\d{1,15}$/.test(field as string) ? Number(field) : field;
    });
    rows.push({ values, where });
  }
  return rows;
}

async function jsonRows(file: string): Promise<Row[]> {
  if (!/\.jsonl$/i.test(file)) {
    const whole = wholeJson(await readFile(file, 'utf8'), file);
    if (whole !== undefined) return objectRows(whole, file);
  }
  // POPE's own files are lines as well, whatever their name says.
  const rows: Row[] = [];
  for await (const { value, line } of readJsonLines(file, { torn: 'refused' })) {
    rows.push({ values: objectAt(value, `${file}:${line}`), where: `${file}:${line}` });
  }
  return rows;
}

function objectRows(whole: unknown, file: string): Row[] {
  const { data } = (whole ?? {}) as { data?: unknown };
  const list = Array.isArray(whole) ? (whole as unknown[]) : Array.isArray(data) ? data : undefined;
  if (list !== undefined) {
    return list.map((value, i) => {
      const where = `${file}, entry ${i}`;
      return { values: objectAt(value, where), where };
    });
  }
  const entries = Object.entries(objectAt(whole, file));
  // One question alone is a line of its own.
  if (!entries.every(([, value]) => typeof value === 'object' && value !== null)) {
    return [{ values: objectAt(whole, file), where: basename(file) }];
  }
  return entries.map(([id, value]) => {
    const where = `${file}, entry ${shortText(id, 40)}`;
    return { values: { question_id: id, ...objectAt(value, where) }, where };
  });
}

function objectAt(value: unknown, where: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw dataError(`${where} is no JSON object.`);
}

/** `undefined` for lines. */
function wholeJson(text: string, file: string): unknown {
  try {
    return parseJson(text);
  } catch (cause) {
    // A list, or an object over several lines.
    if (!/^\s*(\[|\{\s*\n)/.test(text)) return undefined;
    throw dataError(`${file} is not JSON: ${(cause as Error).message}`, cause);
  }
}
