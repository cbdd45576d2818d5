/** What a checkpoint stands on: said, found again, and not taken for something else. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { RecipeInput } from '../../config/index.js';
import { Conversation, loadChatModel, type ChatModelOptions } from '../../generate/index.js';
import { exportModel, type Provenance } from '../../models/index.js';
import { weightsIn } from '../run/run-weights.js';
import { ColourFolder } from '../testing-files.js';
import { resumeRun, train, type ResumeOptions } from '../train.js';

let folder: ColourFolder;
let source: string;
/** A project of its own for each test: `base` and `runs/one`, which stands on it. */
let project: string;
let number = 0;

const LORA = { lora: { rank: 2, alpha: 4 } };
const json = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));

async function run(more: Partial<RecipeInput>): Promise<string> {
  let path: string | null = null;
  for await (const event of train(folder.recipe(more), { maxUpdates: 1 })) {
    if (event.type === 'end') path = event.run;
  }
  return path!;
}

/** Loads the run, and returns what was said of it. */
async function load(path: string, options: ChatModelOptions = {}): Promise<string[]> {
  const said: string[] = [];
  const onNotice = (message: string): void => void said.push(message);
  const { model } = await loadChatModel(await weightsIn(path), { ...options, onNotice });
  model.dispose();
  return said;
}

async function resume(path: string, options: ResumeOptions = {}): Promise<string[]> {
  const said: string[] = [];
  const onDownload: ResumeOptions['onDownload'] = (event) => {
    if (event.type === 'notice') said.push(event.message);
  };
  const events = resumeRun(path, { maxUpdates: 2, ...options, onDownload });
  while ((await events.next()).done !== true);
  return said;
}

beforeAll(async () => {
  folder = await ColourFolder.make();
  source = folder.at('source');
  cpSync(await weightsIn(await run({})), source, { recursive: true });
  rmSync(join(source, 'provenance.json'));
});
afterAll(() => folder.remove());

const one = (): string => join(project, 'runs', 'one');
const base = (...path: string[]): string => join(project, 'base', ...path);

beforeEach(async () => {
  project = folder.at(`project-${number++}`);
  cpSync(source, base(), { recursive: true });
  await run({
    model: { from: base() },
    train: { projector: 'full', decoder: LORA },
    text: { template: 'llama3_chat', system: 'Be brief.' },
    image: { mode: 'crop', reading: 'stored' },
    run: { root: join(project, 'runs'), name: 'one' },
  });
});

function changeWeights(): void {
  const file = base('model.safetensors');
  const bytes = readFileSync(file);
  bytes[bytes.length - 3]! ^= 1;
  writeFileSync(file, bytes);
}

test('is said beside the checkpoint and in the folder of the run', async () => {
  const checkpoint = await weightsIn(one());
  const said = json(join(checkpoint, 'provenance.json')) as Provenance;
  expect(json(join(one(), 'provenance.json'))).toEqual(said);
  const named = { name: base(), path: base(), near: '../../base', layout: 'hf' };
  expect(said).toMatchObject({
    format: 1,
    beneath: [{ role: 'base', ...named }],
    began: { from: named },
    features: { layer: -1, select: 'default' },
    text: { template: { name: 'llama3_chat', source: null }, system: 'Be brief.' },
    image: { mode: 'crop', reading: 'stored' },
    data: [
      { path: folder.at('one.jsonl'), records: 7, files: [{ path: folder.at('one.jsonl') }] },
      {},
    ],
    recipe: { name: 'colours', seed: 0 },
  });
  expect(said.beneath[0]!.digest).toMatch(/^[0-9a-f]{64}$/);
  const files = readdirSync(checkpoint);
  for (const name of ['tokenizer.json', 'chat_template.jinja', 'generation_config.json']) {
    expect(files).toContain(name);
  }
});

test('is how it is spoken to, unless told otherwise; others read it from the template', async () => {
  const chat = await loadChatModel(await weightsIn(one()));
  expect(chat).toMatchObject({
    system: 'Be brief.',
    reading: 'stored',
    pictures: { mode: 'crop' },
  });
  expect(chat.format.name).toBe('llama3_chat');
  expect(new Conversation(chat).messages).toMatchObject([{ role: 'system' }]);
  expect(new Conversation(chat, { system: '' }).messages).toEqual([]);
  const { ids } = chat.format.prompt([
    ...new Conversation(chat).messages,
    { role: 'user', content: [{ type: 'text', text: 'What colour?' }] },
  ]);
  chat.model.dispose();

  const out = join(project, 'exported');
  await exportModel(await weightsIn(one()), 'hf', out, { merge: true });
  const other = await loadChatModel(out);
  expect(other.system).toBeUndefined();
  const asked = {
    role: 'user' as const,
    content: [{ type: 'text' as const, text: 'What colour?' }],
  };
  expect(other.format.prompt([asked]).ids).toEqual(ids);
  expect(other.pictures).toMatchObject({ mode: 'crop' });
  expect(other.stopTokens).toEqual(expect.arrayContaining([...chat.stopTokens]));
  other.model.dispose();
});

describe('a base that moved', () => {
  test('with the run, to another place', async () => {
    const moved = folder.at(`moved-${number}`);
    renameSync(project, moved);
    const said = [`${base()} was found at ${join(moved, 'base')}.`];
    project = moved;
    expect(await load(one())).toEqual(said);
    expect(await resume(one())).toEqual(expect.arrayContaining(said));
    expect(await load(one())).toEqual([]);
  });

  test('to the side of the run', async () => {
    const beside = join(project, 'runs', basename(base()));
    renameSync(base(), beside);
    expect(await load(one())).toEqual([`${base()} was found at ${beside}.`]);
  });

  test('away is named, and another may be given', async () => {
    const away = folder.at(`away-${number}`);
    renameSync(base(), away);
    const missing = {
      code: 'E_BASE_MISSING',
      message: expect.stringContaining(base()) as string,
      hint: expect.stringContaining('--base') as string,
    };
    await expect(load(one())).rejects.toMatchObject(missing);
    await expect(load(one(), { changedBase: true })).rejects.toMatchObject(missing);
    await expect(resume(one())).rejects.toMatchObject({
      ...missing,
      hint: expect.stringContaining('--set model.from=') as string,
    });
    const instead = `${away} is taken in place of ${base()}, which ${await weightsIn(one())} stands on.`;
    expect(await load(one(), { base: away })).toEqual([instead]);
    const set = [`model.from=${away}`];
    expect(await resume(one(), { set })).toEqual([`model.from: ${away} in place of ${base()}.`]);
    expect(await load(one())).toEqual([]);
  });
});

test('a run that goes on is not put upon other weights unless one insists', async () => {
  const other = join(project, 'other');
  cpSync(source, other, { recursive: true });
  rmSync(join(other, 'manifest.json'));
  const file = join(other, 'model.safetensors');
  const bytes = readFileSync(file);
  bytes[bytes.length - 3]! ^= 1;
  writeFileSync(file, bytes);
  const changed = { code: 'E_BASE_CHANGED', exitCode: 4 };
  for (const field of ['from', 'projector', 'adapter', 'tokenizer']) {
    const set = [`model.${field}=${other}`];
    const message = expect.stringContaining(`model.${field}: ${other}`) as string;
    await expect(resume(one(), { set })).rejects.toMatchObject({ ...changed, message });
  }
  const set = [`model.from=${other}`];
  expect(await resume(one(), { set, changedBase: true })).toEqual([
    `model.from: ${other} in place of ${base()}.`,
  ]);
});

describe('a base that changed is refused, and taken where that is asked for:', () => {
  test.each<[string, () => void]>([
    ['its weights, of the same shapes', changeWeights],
    [
      'its configuration',
      () => {
        const file = base('config.json');
        const config = json(file) as Record<string, object>;
        const text = { ...config['text_config'], rms_norm_eps: 1e-3 };
        writeFileSync(file, JSON.stringify({ ...config, text_config: text }));
      },
    ],
    [
      'another model in its place',
      () => writeFileSync(base('model.safetensors'), 'Not a model at all.'),
    ],
  ])('%s', async (name, change) => {
    change();
    const changed = {
      code: 'E_BASE_CHANGED',
      exitCode: 4,
      hint: expect.stringContaining('--changed-base') as string,
    };
    await expect(load(one())).rejects.toMatchObject(changed);
    await expect(resume(one())).rejects.toMatchObject(changed);
    if (name.startsWith('another')) return;
    expect(await load(one(), { changedBase: true })).toEqual([
      expect.stringContaining(`${base()} has changed since`) as string,
    ]);
    expect(await load(one(), { base: base() })).toHaveLength(1);
    await resume(one(), { changedBase: true });
  });

  test('not where a file only says it in another form', async () => {
    const file = base('config.json');
    const config = json(file) as Record<string, object>;
    const entries = Object.entries(config).reverse();
    writeFileSync(file, JSON.stringify(Object.fromEntries(entries)));
    expect(await load(one())).toEqual([]);
  });
});

test('a run that was begun with a checkpoint which is gone since says so, and is whole without it', async () => {
  const two = await run({
    model: { from: one() },
    train: { projector: 'full', decoder: 'frozen' },
    run: { root: join(project, 'runs'), name: 'two' },
  });
  rmSync(await weightsIn(one()), { recursive: true });
  expect(await load(two)).toEqual([]);
  await expect(resume(two)).rejects.toMatchObject({
    code: 'E_BASE_MISSING',
    message: expect.stringContaining(one()) as string,
  });
});

test('what says it and is damaged is an error; an old checkpoint has none and is read by its own files', async () => {
  const copy = join(project, 'copy');
  cpSync(await weightsIn(one()), copy, { recursive: true });
  rmSync(join(copy, 'manifest.json'));
  const file = join(copy, 'provenance.json');
  for (const text of ['{}', '{"format":2}', '[]', '{']) {
    writeFileSync(file, text);
    await expect(load(copy)).rejects.toMatchObject({ exitCode: 4 });
  }
  rmSync(file);
  for (const name of ['tokenizer.json', 'chat_template.jinja', 'generation_config.json']) {
    rmSync(join(copy, name));
  }
  expect(await load(copy, { template: 'llama3_chat' })).toEqual([]);
});

test('a part that would not be used is refused before anything trains', async () => {
  const other = join(project, 'other');
  cpSync(source, other, { recursive: true });
  const parts = { train: { decoder: LORA }, run: { root: join(project, 'none') } };
  const model = { from: base(), vision: other };
  await expect(run({ ...parts, model })).rejects.toMatchObject({
    code: 'E_PART_UNUSED',
    exitCode: 2,
  });
  expect(existsSync(join(project, 'none'))).toBe(false);
});

test('the tokenizer that a run was told to use comes with it', async () => {
  const own = join(project, 'own');
  mkdirSync(own);
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    cpSync(join(source, name), join(own, name));
  }
  const config = json(join(own, 'tokenizer_config.json')) as object;
  const template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}";
  writeFileSync(join(own, 'chat_template.jinja'), template);
  writeFileSync(
    join(own, 'tokenizer_config.json'),
    JSON.stringify({ ...config, chat_template: undefined, mine: true }),
  );
  const path = await run({
    model: { from: base(), tokenizer: own },
    train: { decoder: LORA },
    run: { root: join(project, 'runs') },
  });
  rmSync(own, { recursive: true });
  const checkpoint = await weightsIn(path);
  expect(json(join(checkpoint, 'tokenizer_config.json'))).toMatchObject({ mine: true });
  expect(readFileSync(join(checkpoint, 'chat_template.jinja'), 'utf8')).toBe(template);
  const chat = await loadChatModel(checkpoint);
  expect(chat.tokenizer).toBe(checkpoint);
  chat.model.dispose();
});
