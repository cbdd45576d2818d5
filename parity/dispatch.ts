/**
 * The runners by the kind of files that they compare, and what the command line makes of them.
 */
import { didYouMean } from '../src/base/did-you-mean.js';
import { PatinaError, UsageError } from '../src/base/errors.js';

/** A runner parses its own arguments, prints its table and returns whether all of it is within tolerance. */
interface Runner {
  run(argv: string[]): Promise<boolean>;
}

interface Kind {
  usage: string;
  what: string;
  load: () => Promise<Runner>;
}

const KINDS: Record<string, Kind> = {
  llava: {
    usage: 'llava FOLDER [--out DIR] [--device cpu|cuda] [--policy LEVEL] [--packed]',
    what: 'features, logits, gradients and layouts of a LLaVA, against transformers',
    load: () => import('./llava.js'),
  },
  pickle: {
    usage: 'pickle FOLDER [--out DIR]',
    what: 'checkpoints of torch, read or refused, against torch.load',
    load: () => import('./pickle.js'),
  },
  nf4: {
    usage: 'nf4 FOLDER [--out DIR] [--device cpu|cuda]',
    what: 'weights in 4 bits, their products, and a quantised checkpoint, against bitsandbytes',
    load: () => import('./nf4.js'),
  },
  encode: {
    usage: 'encode FILE.jsonl --tokenizer DIR',
    what: "records as token ids and labels, against XTuner's and transformers'",
    load: () => import('./encode.js'),
  },
  pixels: {
    usage: 'pixels FOLDER [--out DIR]',
    what: "image files, decoded and resized, against CLIP's processor with Pillow",
    load: () => import('./pixels.js'),
  },
  train: {
    usage:
      'train FOLDER [--out DIR] [--device cpu|cuda] [--policy LEVEL] [--packed] [--ranks N] [--zero 0|1|2|3] [--accumulate] [--offload optimizer|parameters] [--shard-over M] [--keep-gathered]',
    what: 'losses, gradient norms and final weights of training runs, against transformers and peft; on N processes that shard it',
    load: () => import('./train.js'),
  },
};

const HELP = `Holds Patina against files that a reference has written.

Usage: npm run parity -- KIND PATH [options]

${Object.values(KINDS)
  .map(({ usage, what }) => `  ${usage}\n      ${what}`)
  .join('\n')}

LEVEL is what segments keep between forward and backward: keep, products, attention, recompute or offload. All records of a
micro-batch lie in one row, as batches are always made; --packed says it of each.
With --out a runner that takes it also writes what Patina made of the inputs into DIR.
Exit code: 0 if everything is within tolerance, 1 if something is not, 2 for a wrong call,
3 if the machine lacks something, 4 if the files are not of the expected shape.`;

/** Runs one comparison and returns the exit code. */
export async function dispatch(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || [name, ...rest].some((word) => word === '--help' || word === '-h')) {
    console.log(HELP);
    return name === undefined ? 2 : 0;
  }
  try {
    const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
    if (kind === undefined) throw unknownKind(name);
    const runner = await kind.load();
    return (await runner.run(rest)) ? 0 : 1;
  } catch (error) {
    if (!(error instanceof PatinaError)) throw error;
    console.error(`${error.message}\n${error.hint}`);
    return error.exitCode;
  }
}

function unknownKind(name: string): UsageError {
  const kinds = Object.keys(KINDS);
  const near = didYouMean(name, kinds);
  const question = near === undefined ? '' : ` Did you mean "${near}"?`;
  return new UsageError(`There is no parity runner "${name}".${question}`, {
    code: 'E_USAGE',
    hint: `Choose one of: ${kinds.join(', ')}.`,
  });
}
