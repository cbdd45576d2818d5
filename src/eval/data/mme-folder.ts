/**
 * MME as its makers give it: a folder for each kind of question, in it pictures and for each a text file of the same name, with a question
 * and its answer a line, a tab between them. Some kinds have them in two folders, `images` and `questions_answers_YN`.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join, parse } from 'node:path';

import { dataError, type Row } from './rows.js';

/**
 * Rows with pictures relative to the folder, named as lmms-eval and LLaVA name them; none where it is no such folder.
 *
 * @throws DataError `E_EVAL_DATA` for a line that is no question with its answer
 */
export async function mmeRows(folder: string): Promise<Row[]> {
  const rows: Row[] = [];
  for (const kind of await foldersIn(folder)) {
    const isSplit = (await foldersIn(join(folder, kind))).includes('questions_answers_YN');
    const texts = join(folder, kind, isSplit ? 'questions_answers_YN' : '');
    const images = join(kind, isSplit ? 'images' : '');
    const pictures = new Map(
      (await filesIn(join(folder, images)))
        .filter((name) => /\.(jpe?g|png)$/i.test(name))
        .map((name) => [parse(name).name, name]),
    );
    for (const name of (await filesIn(texts)).filter((each) => each.endsWith('.txt'))) {
      const picture = pictures.get(parse(name).name) ?? `${parse(name).name}.jpg`;
      const file = join(texts, name);
      for (const { question, answer, where } of await questionsOf(file)) {
        const facts = { question_id: `${kind}/${picture}`, image: join(images, picture) };
        rows.push({ values: { ...facts, question, answer, category: kind }, where });
      }
    }
  }
  return rows;
}

async function questionsOf(
  file: string,
): Promise<{ question: string; answer: string; where: string }[]> {
  const lines = (await readFile(file, 'utf8')).replace(/^\ufeff/, '').split('\n');
  return lines.flatMap((line, i) => {
    if (line.trim() === '') return [];
    const where = `${file}:${i + 1}`;
    const [question, answer, ...rest] = line.trim().split('\t');
    if (answer === undefined || rest.length > 0) {
      throw dataError(`${where} is no question and answer with a tab between them.`);
    }
    return [{ question: question!, answer, where }];
  });
}

async function foldersIn(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true });
  return entries.flatMap((each) => (each.isDirectory() ? each.name : [])).sort();
}

/** None where there is no such folder: its pictures are missed one by one. */
async function filesIn(path: string): Promise<string[]> {
  return (await readdir(path).catch((): string[] => [])).sort();
}
