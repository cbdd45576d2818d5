/** A question of a benchmark, whatever file it came from. */
import { dataError } from './data/rows.js';

/** A file; base64 text; or such text where it lies within a file, as in the TSV files of VLMEvalKit, which are too large to hold. */
export type Picture =
  | { readonly path: string }
  | { readonly base64: string }
  | { readonly file: string; readonly offset: number; readonly length: number };

/** A box in pixels as `x, y, width, height`, with the size of its picture. */
export interface Box {
  readonly corner: readonly [x: number, y: number, width: number, height: number];
  readonly width: number;
  readonly height: number;
}

export interface Item {
  /** As the file has it; where several have the same, the first answer of that id is the first one's. */
  readonly id: string | number;
  readonly question: string;
  /** Said before the question. */
  readonly hint?: string | undefined;
  /** By their letters, `A` first. */
  readonly options: ReadonlyMap<string, string>;
  /** What is right: one text, or those that several people gave. Empty where the file does not say, as a test split. */
  readonly answers: readonly string[];
  /** Kinds under which it counts as well. */
  readonly categories: readonly string[];
  readonly pictures: readonly Picture[];
  /** Name of its picture, else its id. */
  readonly scene: string;
  /** Items of one group count together: turns of the same options, the questions on one picture. @default an item alone */
  readonly group: string;
  readonly box?: Box | undefined;
  /** File and place, for messages. */
  readonly where: string;
}

/** What is right where one answer alone can be. @throws DataError `E_EVAL_DATA` for several */
export function onlyAnswer({ answers, where }: Item): string | undefined {
  if (answers.length > 1)
    throw dataError(`${where} has ${answers.length} answers in place of one.`);
  return answers[0];
}

/** Whether the file says what is right. */
export function isAnswered({ answers, box }: Item): boolean {
  return answers.length > 0 || box !== undefined;
}
