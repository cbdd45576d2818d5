/** `patina eval`: a benchmark asked and scored by the rules of the program that is named. */
import { UsageError } from '../base/errors.js';
import { formatCount } from '../base/format.js';
import { jsonLine } from '../base/json-text.js';
import { writing } from '../base/system-error.js';
import { writeWholeFile } from '../base/whole-file.js';
import { evaluate, type Evaluation, findTask, type Score, writeSubmission } from '../eval/index.js';
import type { LoadedChatModel } from '../generate/index.js';
import { givenOptions } from './arguments.js';
import type { ModelFlags } from './load-named.js';
import type { Output, Session } from './session.js';
import { requireTargets } from './targets.js';
import { columns } from './train-view/event-lines.js';

export interface EvalFlags extends ModelFlags {
  data?: string;
  images?: string;
  harness?: string;
  answers?: string;
  scores?: string;
  submission?: string;
  compare?: string;
  limit?: number;
  rows?: number;
  system?: string;
  name?: string;
  json?: boolean;
}

const WRITING = 'write what was made of the answers';

/** In place of a model: everything is answered already. */
export const NO_MODEL = '-';

/** Options that are not about asking a model alone. */
const SCORING = [
  'images',
  'harness',
  'answers',
  'scores',
  'submission',
  'compare',
  'limit',
  'json',
];

/** @throws UsageError `E_USAGE` where there are no answers, or for an option that would have no effect */
function refuseAsking(flags: EvalFlags): void {
  if (flags.answers === undefined) {
    throw new UsageError(
      'With - in place of a model, answers that are there already are scored, and no file of them is named.',
      { code: 'E_USAGE', hint: 'Name the file (--answers FILE), or a model.' },
    );
  }
  const unused = givenOptions(flags, SCORING);
  if (unused.length === 0) return;
  throw new UsageError(
    `With - in place of a model nobody is asked, so ${unused.join(' and ')} would have no effect.`,
    { code: 'E_USAGE', hint: 'Leave that out, or name a model.' },
  );
}

export async function evalCommand(
  source: string,
  name: string,
  { data, ...flags }: EvalFlags & { data: string },
  session: Session,
): Promise<void> {
  const { stdout, stderr } = session;
  const task = findTask(name);
  if (source === NO_MODEL) refuseAsking(flags);
  const { scores, submission } = flags;
  await requireTargets({ '--scores': scores, '--submission': submission }, WRITING, {
    ...{ '--data': data, '--answers': flags.answers, '--compare': flags.compare },
  });
  let chat: LoadedChatModel | undefined;
  await session.inOrder(async (signal) => {
    try {
      const load = async (): Promise<LoadedChatModel> => {
        // Who only scores needs no libtorch.
        const { loadNamed } = await import('./load-named.js');
        chat = await loadNamed(source, flags, { signal, stderr });
        return chat;
      };
      const { images, harness, answers, compare, limit, rows, system } = flags;
      const evaluation = await evaluate(task.name, {
        ...{ data, images, harness, answers, compare, limit, rows, system, signal },
        model: flags.name ?? (await nameOf(source, flags)),
        load: source === NO_MODEL ? undefined : load,
        onNotice: (message) => stderr.write(`${message}\n`),
        onProgress: progress(stderr),
      });
      if (scores !== undefined) await writeScores(scores, evaluation);
      if (submission !== undefined) await writeSubmission(submission, evaluation.answered);
      stdout.write(flags.json === true ? jsonLine(report(evaluation)) : table(evaluation, flags));
    } catch (error) {
      if (!signal.aborted || error !== signal.reason) throw error;
      if (flags.answers !== undefined) {
        stderr.write(`What is answered stands in ${flags.answers}; the same command goes on.\n`);
      }
    } finally {
      chat?.model.dispose();
    }
  });
}

async function nameOf(source: string, flags: ModelFlags): Promise<string> {
  if (source === NO_MODEL) return NO_MODEL;
  const { modelName } = await import('./load-named.js');
  return modelName(source, flags);
}

function report({ task, harness, answered, result, comparison }: Evaluation): object {
  if (result === null) {
    return { task, harness, score: null, interval: null, n: answered.length, categories: {} };
  }
  const { score, interval, n, metrics, categories } = result;
  return {
    ...{ task, harness, score, interval, n, ...metrics },
    ...(comparison && { comparison }),
    categories,
  };
}

function table(evaluation: Evaluation, { answers, compare }: EvalFlags): string {
  const { task, harness, result, answered, comparison } = evaluation;
  if (result === null) {
    const where = answers === undefined ? '' : ` They stand in ${answers}.`;
    return `${answered.length} answers; the file does not say what is right, so there is no score.${where}\n`;
  }
  const head = ['', 'score', '95 %', 'n', ...Object.keys(result.metrics)];
  const rows = Object.entries(result.categories).map(([kind, { score, n, ...metrics }]) => [
    kind,
    figure(score),
    '',
    String(n),
    ...Object.values(metrics).map(figure),
  ]);
  const all = [task, figure(result.score), interval(result), String(result.n)];
  const main = [...all, ...Object.values(result.metrics).map(figure)];
  const lines = `${columns([head, main, ...rows]).join('\n')}\n`;
  const by = `Scored by the rules of ${harness}; interval: ${METHODS[result.intervalMethod]}.\n`;
  if (comparison === undefined) return lines + by;
  const { score, onlyFirst, onlySecond, p } = comparison;
  return `${lines}${by}${compare!}: ${figure(score)}. Better here on ${onlyFirst} questions, there on ${onlySecond}; McNemar's exact test: p = ${p.toPrecision(2)}.\n`;
}

const METHODS: Readonly<Record<Score['intervalMethod'], string>> = {
  wilson: "Wilson's",
  bootstrap: 'bootstrap, 1000 draws',
};

function figure(value: number): string {
  return value > 1 ? value.toFixed(1) : value.toFixed(4);
}

function interval({ interval: [low, high] }: Score): string {
  return `${figure(low)} to ${figure(high)}`;
}

/** What was made of each answer, a line each. */
async function writeScores(file: string, { answered }: Evaluation): Promise<void> {
  const lines = answered.map(({ item, text, extracted, score }) =>
    jsonLine({ question_id: item.id, text, extracted, answer: item.answers, score }),
  );
  await writing(file, WRITING, () => writeWholeFile(file, lines.join('')));
}

/** One line of a terminal; elsewhere nothing. */
function progress(stderr: Output): (done: number, total: number) => void {
  return (done, total) => {
    if (stderr.isTTY !== true) return;
    const end = done === total ? '\r\u001b[K' : '';
    stderr.write(`\r\u001b[K${formatCount(done)} of ${formatCount(total)} questions${end}`);
  };
}
