/** The whole schema of a recipe: its fields, and what no single one of them can say, since some exclude or need each other. */
import { isFrozen, recipeFields, taskName, type Recipe } from './recipe.js';

interface Contradiction {
  path: string[];
  /** A sentence that says what to do. */
  message: string;
}

/** Fields, defaults, and no contradictions. */
export const recipeSchema = recipeFields
  .superRefine((recipe, context) => {
    for (const { path, message } of contradictions(recipe)) {
      context.addIssue({ code: 'custom', path, message });
    }
  })
  .transform((recipe) =>
    recipe.batchTokens === undefined ? { ...recipe, batchSize: recipe.batchSize ?? 1 } : recipe,
  );

function contradictions(recipe: Recipe): Contradiction[] {
  return [
    ...modelFaults(recipe),
    ...trainFaults(recipe),
    ...batchFaults(recipe),
    ...stepFaults(recipe),
    ...parallelFaults(recipe),
    ...validationFaults(recipe),
  ];
}

function* modelFaults({ model }: Recipe): Generator<Contradiction> {
  const { from, llm, config, tokenizer } = model;
  const path = ['model'];
  if (from === undefined && llm === undefined && config === undefined) {
    yield {
      path,
      message: 'name a model by `from`, by `llm` and `vision`, or describe one by `config`',
    };
  }
  if (config === undefined) return;
  const others = (['from', 'llm', 'vision', 'projector', 'adapter'] as const).filter(
    (key) => model[key] !== undefined,
  );
  if (others.length > 0) {
    yield {
      path: ['model', 'config'],
      message: `\`config\` makes a new model: remove \`${others.join('`, `')}\`, or remove \`config\``,
    };
  }
  if (tokenizer === undefined) {
    yield { path: ['model', 'config'], message: 'a new model needs a `tokenizer`' };
  }
}

function* trainFaults({ model, train }: Recipe): Generator<Contradiction> {
  if (Object.values(train).every(isFrozen)) {
    yield {
      path: ['train'],
      message: 'nothing would learn: set a part to `full` or give it a LoRA',
    };
  }
  for (const part of ['vision', 'decoder'] as const) {
    const choice = train[part];
    if (typeof choice !== 'object') continue;
    const { lora, base, doubleQuantised } = choice;
    const path = ['train', part];
    if (lora === undefined && base === undefined) {
      yield { path, message: 'give it a `lora`, a `base`, or both; else say `frozen` or `full`' };
    }
    if (base !== 'nf4' && doubleQuantised) {
      yield {
        path: [...path, 'doubleQuantised'],
        message: 'scales are quantised with weights in NF4: set `base: nf4`, or this to false',
      };
    }
    if (base !== undefined && model.config !== undefined) {
      yield {
        path: [...path, 'base'],
        message: 'a new model stands on no base that could be quantised: leave it out',
      };
    }
  }
}

function* batchFaults(recipe: Recipe): Generator<Contradiction> {
  const { batchSize, batchTokens, batchImages, accumulate, effectiveBatch } = recipe;
  if (batchTokens === undefined) {
    if (batchImages === undefined) return;
    yield {
      path: ['batchImages'],
      message: 'pictures are counted beside `batchTokens` only: give it, or remove `batchImages`',
    };
    return;
  }
  const path = ['batchTokens'];
  if (batchSize !== undefined) {
    yield { path, message: 'give either `batchSize` or `batchTokens`: remove one of them' };
  }
  if (effectiveBatch === undefined) {
    yield { path, message: 'give `effectiveBatch`, the records of an update, which are packed' };
  }
  if (accumulate !== undefined) {
    const message = 'how many micro-batches there are follows from `batchTokens`: remove it';
    yield { path: ['accumulate'], message };
  }
}

function* stepFaults({
  precision,
  optimizer,
  accumulate,
  batchTokens,
}: Recipe): Generator<Contradiction> {
  if (precision.master === 'bf16' && precision.compute !== 'bf16') {
    yield {
      path: ['precision', 'master'],
      message: `bf16 weights need \`compute: bf16\`, not ${precision.compute}`,
    };
  }
  if (!optimizer.updateInBackward) return;
  const path = ['optimizer', 'updateInBackward'];
  if (optimizer.clipNorm !== null) {
    yield {
      path,
      message: 'the global norm is not known in time: set `optimizer.clipNorm` to null',
    };
  }
  if (batchTokens !== undefined) {
    yield {
      path,
      message: 'gradients are not accumulated: set `batchSize` in place of `batchTokens`',
    };
  }
  if (accumulate !== undefined && accumulate > 1) {
    yield { path, message: 'gradients are not accumulated: set `accumulate` to 1' };
  }
  if (precision.compute === 'fp16') {
    yield { path, message: 'fp16 needs the whole gradient to find overflows: use bf16 or fp32' };
  }
}

function* parallelFaults({ parallel, precision }: Recipe): Generator<Contradiction> {
  const { zero, shardOver, offload, reduction, reshardAfterForward } = parallel;
  const fault = (field: keyof typeof parallel, message: string): Contradiction => ({
    path: ['parallel', field],
    message,
  });
  if (offload === 'parameters' && zero !== 3) {
    yield fault('offload', 'weights lie in host memory only with `zero: 3`');
  }
  if (offload !== 'none' && (precision.master === 'bf16' || precision.states !== 'fp32')) {
    yield fault(
      'offload',
      'an optimizer in host memory keeps fp32: set `precision.master` and `precision.states` to fp32',
    );
  }
  if (!reshardAfterForward && zero !== 3) {
    yield fault('reshardAfterForward', 'weights are not gathered without `zero: 3`: leave it out');
  }
  if (shardOver !== undefined && zero === 0) {
    yield fault('shardOver', 'nothing is shared out with `zero: 0`: set `zero` to 1, 2 or 3');
  }
  if (reduction === 'bf16' && precision.compute !== 'bf16') {
    yield fault('reduction', `bf16 sums need \`compute: bf16\`, not ${precision.compute}`);
  }
}

function* validationFaults({ validation }: Recipe): Generator<Contradiction> {
  if (validation === undefined) return;
  const { fraction, sources, tasks, best, patience } = validation;
  const path = ['validation'];
  const hasLoss = fraction !== undefined || sources !== undefined;
  const both = fraction !== undefined && sources !== undefined;
  if (both || (!hasLoss && tasks.length === 0)) {
    const tasks = both ? '' : ', or `tasks`';
    yield { path, message: `give either \`fraction\` or \`sources\`${tasks}` };
  }
  const names = tasks.map(taskName);
  const twice = names.findIndex((name, i) => names.indexOf(name) < i);
  if (twice >= 0) {
    yield {
      path: [...path, 'tasks', String(twice), 'name'],
      message: `another task is called ${names[twice]!}: give this one a \`name\` of its own`,
    };
  }
  if (best !== undefined && !names.includes(best)) {
    const known = names.length === 0 ? 'there are none' : names.join(', ');
    yield { path: [...path, 'best'], message: `name one of \`tasks\` (${known})` };
  }
  if (patience !== undefined && !hasLoss && best === undefined) {
    yield {
      path: [...path, 'patience'],
      message: 'there is no loss to wait for: name one of `tasks` as `best`, or give `fraction`',
    };
  }
}
