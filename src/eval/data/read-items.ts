/** Questions from a file in any of the forms that benchmarks come in; which field is which follows from its name. */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';

import { shortText } from '../../base/short-text.js';
import type { Box, Item, Picture } from '../item.js';
import { mmeRows } from './mme-folder.js';
import { withPopeLabels } from './pope-labels.js';
import { dataError, isFar, readRows, type Row } from './rows.js';

export interface ReadOptions {
  /** Folder of the pictures. @default that of the file */
  images?: string | undefined;
}

/** Text of a picture: no name of a file, which has a full stop and is shorter. */
const BASE64 = /^(data:image\/[\w.+-]+;base64,)?([A-Za-z0-9+/]{64,}={0,2})$/;
const LETTERS = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZ');

/**
 * @param path a file, or the folder of POPE (`coco_pope_KIND.json`) or of MME as its makers give it
 * @throws DataError `E_EVAL_DATA`; those of `readRows`
 */
export async function readItems(path: string, { images }: ReadOptions = {}): Promise<Item[]> {
  const isDirectory = await isFolder(path);
  const rows = await (isDirectory ? rowsInFolder(path) : rowsOf(path));
  const folder = images ?? (isDirectory ? path : dirname(path));
  const byIndex = new Map(rows.map((row) => [text(row.values['index']), row]));
  const own =
    basename(path) === 'problems.json' ? schoolRows(rows) : await withPopeLabels(rows, path);
  return own.map((row) => itemOf(row, folder, byIndex));
}

/** ScienceQA's own file has all splits; a picture lies under split and id. */
function schoolRows(rows: readonly Row[]): Row[] {
  return rows
    .filter(({ values }) => values['split'] === 'test')
    .map(({ values, where }) => {
      const image = text(values['image']);
      const path = image && join('images', 'test', text(values['question_id'])!, image);
      return { values: { ...values, image: path }, where };
    });
}

const POPE = /^coco_pope_(\w+)\.json$/;

/** POPE's own files say of which kind their questions are by their names. */
async function rowsOf(file: string): Promise<Row[]> {
  const rows = await readRows(file);
  const [, kind] = POPE.exec(basename(file)) ?? [];
  if (kind === undefined) return rows;
  return rows.map(({ values, where }) => ({ values: { category: kind, ...values }, where }));
}

async function rowsInFolder(path: string): Promise<Row[]> {
  const names = (await readdir(path)).filter((name) => POPE.test(name)).sort();
  const files = await Promise.all(names.map((name) => rowsOf(join(path, name))));
  const rows = names.length > 0 ? files.flat() : await mmeRows(path);
  if (rows.length > 0) return rows;
  throw dataError(
    `${path} is a folder, and neither POPE's with coco_pope_*.json nor MME's with a folder for each kind: name a file.`,
  );
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false; // what is missing is told of where it is read
  }
}

function itemOf(row: Row, folder: string, byIndex: ReadonlyMap<string | undefined, Row>): Item {
  const { values, where } = row;
  const first = (...names: string[]): unknown =>
    names.map((name) => values[name]).find((value) => value !== undefined && value !== null);
  const phrase = text(values['sents']);
  const id =
    first('question_id', 'index', 'id') ??
    (phrase === undefined ? undefined : `${String(values['img_id'])}-${phrase}`);
  if (typeof id !== 'string' && typeof id !== 'number') {
    throw dataError(`${where} has no question_id, index or id.`);
  }
  if (Number.isInteger(id) && !Number.isSafeInteger(id)) {
    throw dataError(`${where}: ${id} is not its id, which has too many digits; put it in quotes.`);
  }
  const question = text(first('question', 'text')) ?? phrase;
  if (question === undefined) throw dataError(`${where} has no question or text.`);
  const options = optionsOf(values, where);
  const pictures = picturesOf(row, folder, byIndex);
  const [picture] = pictures;
  const scene = text(values['image_path']) ?? (picture && 'path' in picture ? picture.path : id);
  return {
    id,
    question,
    hint: text(first('hint')),
    options,
    answers: answersOf(first('answers', 'answer', 'label'), options, where),
    categories: categoriesOf([first('category'), first('l2-category')], where),
    pictures,
    scene: String(scene),
    group: where,
    box: boxOf(values, where),
    where,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

function requireText(value: unknown, what: string): string {
  const found = text(value);
  if (found === undefined) throw dataError(`${what} is no text.`);
  return found;
}

/** One, a list of them, or none: `null`, or an empty text. */
function categoriesOf(given: readonly unknown[], where: string): string[] {
  return given
    .flat()
    .filter((each) => each !== undefined && each !== null && each !== '')
    .map((each) => requireText(each, `${where}: its category`));
}

function optionsOf(values: Row['values'], where: string): Map<string, string> {
  const choices = values['choices'] ?? undefined;
  if (choices !== undefined && !Array.isArray(choices)) {
    throw dataError(`${where}: choices are no list.`);
  }
  const list = (choices as unknown[] | undefined) ?? LETTERS.map((letter) => values[letter]);
  if (list.length > LETTERS.length) {
    throw dataError(
      `${where} has ${list.length} choices, and there are ${LETTERS.length} letters.`,
    );
  }
  const letters = list.flatMap((each, i): [string, string][] => {
    if (each === undefined || each === null) return [];
    const letter = LETTERS[i]!;
    return [[letter, requireText(each, `${where}: choice ${letter}`)]];
  });
  return new Map(letters);
}

/** A number beside choices is the place of the right one. */
function answersOf(value: unknown, options: ReadonlyMap<string, string>, where: string): string[] {
  if (value === undefined) return [];
  const list = Array.isArray(value) ? (value as unknown[]) : (pythonList(value) ?? [value]);
  return list.map((each) => {
    const answer = text(each);
    if (answer === undefined) throw dataError(`${where}: an answer is neither text nor number.`);
    if (typeof each !== 'number' || options.size === 0) return answer;
    const letter = LETTERS[each];
    if (letter !== undefined && options.has(letter)) return letter;
    throw dataError(`${where}: the answer is choice ${each} of ${options.size}, counted from 0.`);
  });
}

function picturesOf(
  { values, where }: Row,
  folder: string,
  byIndex: ReadonlyMap<string | undefined, Row>,
): Picture[] {
  const given = values['images'] ?? values['image'] ?? values['image_path'] ?? named(values);
  if (given === undefined || given === null) return [];
  return (Array.isArray(given) ? (given as unknown[]) : [given]).flatMap((each) =>
    pictureOf(each, where, folder, byIndex),
  );
}

/** Of files that give the number of a picture, or parts of its path. */
function named({ image_id, imageId, img_id, split }: Row['values']): string | undefined {
  const number = text(image_id) ?? text(imageId);
  if (number !== undefined) return `${number}.jpg`;
  const coco = text(img_id)?.split('_').at(-2);
  return coco === undefined || split !== undefined ? undefined : `coco/train2017/${coco}.jpg`;
}

function boxOf({ bbox, width, height }: Row['values'], where: string): Box | undefined {
  if (bbox === undefined) return undefined;
  const numbers = [bbox, width, height].flat().filter((each) => Number.isFinite(each)) as number[];
  if (numbers.length !== 6) throw dataError(`${where}: bbox, width and height are not 6 numbers.`);
  const [x, y, w, h, wide, high] = numbers as [number, number, number, number, number, number];
  if (wide <= 0 || high <= 0) {
    throw dataError(`${where}: the picture is ${wide} wide and ${high} high.`);
  }
  return { corner: [x, y, w, h], width: wide, height: high };
}

/** The texts of a list as Python writes it, which VLMEvalKit's files have in a field. */
function pythonList(value: unknown): string[] | undefined {
  if (typeof value !== 'string' || !/^\[['"].*['"]\]$/s.test(value)) return undefined;
  return [...value.matchAll(/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/gs)].map(([, one, two]) =>
    (one ?? two!).replaceAll(
      /\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))/gs,
      (_, byte?: string, unit?: string, char?: string) =>
        char === undefined
          ? String.fromCharCode(parseInt(byte ?? unit!, 16))
          : (ESCAPES[char] ?? char),
    ),
  );
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r' };

function pictureOf(
  value: unknown,
  where: string,
  folder: string,
  byIndex: ReadonlyMap<string | undefined, Row>,
): Picture[] {
  if (isFar(value)) return [value];
  const name = requireText(value, `${where}: its image`);
  if (name === '') throw dataError(`${where}: its image has no name; leave it out for none.`);
  const base64 = BASE64.exec(name)?.[2];
  if (base64 !== undefined) return [{ base64 }];
  // Turns of a question name the row that has its picture.
  const other = /^\d{1,15}$/.test(name) ? byIndex.get(name)?.values['image'] : undefined;
  // Such a row has it itself, else two could name each other.
  if (other !== undefined && other !== value) return pictureOf(other, where, folder, new Map());
  if (name.includes('\0')) throw dataError(`${where}: ${shortText(name, 60)} is no file name.`);
  return [{ path: isAbsolute(name) ? name : join(folder, name) }];
}
