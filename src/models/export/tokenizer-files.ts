/**
 * A tokenizer's files on their way from one folder to another: which tokens there are, tokens added, the chat template in a file
 * of its own. Files that need no change keep their bytes.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { DataError } from '../../base/errors.js';
import { readJsonObject, readSmallText } from '../../formats/small-file.js';
import { isJsonObject } from '../../formats/strict-json.js';
import type { Json } from './model-json.js';
import { pythonJson, type Companion } from './small-files.js';

/** What goes along with `tokenizer.json`, where it is there. */
const JSON_ALONG = ['special_tokens_map.json', 'added_tokens.json'];
const ALONG = ['tokenizer.model', 'vocab.json', 'merges.txt'];

/** A token and the row of the embeddings that is its own. */
export interface AddedToken {
  readonly token: string;
  readonly id: number;
}

export class TokenizerFiles {
  readonly added: AddedToken[] = [];
  private readonly ids = new Map<string, number>();

  private constructor(
    readonly folder: string,
    private readonly tokenizer: Json,
    private readonly config: Json,
    private readonly along: ReadonlyMap<string, Json | undefined>,
    /** The chat template, if there is one. */
    readonly template: string | undefined,
  ) {
    const model = isJsonObject(tokenizer['model']) ? tokenizer['model'] : {};
    const { vocab } = model;
    const file = join(folder, 'tokenizer.json');
    if (isJsonObject(vocab)) {
      for (const [token, id] of Object.entries(vocab)) this.learn(file, token, id);
    } else if (Array.isArray(vocab)) {
      vocab.forEach((pair: unknown, id) => {
        this.learn(file, Array.isArray(pair) ? pair[0] : undefined, id);
      });
    } else throw broken(file, 'its model has no vocabulary');
    const special = tokenizer['added_tokens'] ?? [];
    if (!Array.isArray(special)) throw broken(file, 'added_tokens is no list');
    for (const each of special as unknown[]) {
      this.learn(
        file,
        ...(isJsonObject(each) ? ([each['content'], each['id']] as const) : ([0, 0] as const)),
      );
    }
  }

  /** @returns undefined for a folder without a `tokenizer.json`. @throws DataError `E_JSON`, `E_TOKENIZER_BROKEN` */
  static async read(folder: string): Promise<TokenizerFiles | undefined> {
    const file = (name: string): string => join(folder, name);
    const copy = async (name: string): Promise<Json | undefined> => {
      const json = await readJsonObject(file(name));
      return json === undefined ? undefined : { ...json };
    };
    const tokenizer = await copy('tokenizer.json');
    if (tokenizer === undefined) return undefined;
    const config = (await copy('tokenizer_config.json')) ?? {};
    const along = new Map<string, Json | undefined>();
    for (const name of JSON_ALONG) {
      const json = await copy(name);
      if (json !== undefined) along.set(name, json);
    }
    for (const name of ALONG) if (existsSync(file(name))) along.set(name, undefined);
    const jinja = await readSmallText(file('chat_template.jinja'));
    const json = (await readJsonObject(file('chat_template.json')))?.['chat_template'];
    const template = jinja ?? templateOf(json) ?? templateOf(config['chat_template']);
    return new TokenizerFiles(folder, tokenizer, config, along, template);
  }

  id(token: string): number | undefined {
    return this.ids.get(token);
  }

  /** The token of an id. */
  token(id: number): string | undefined {
    return [...this.ids].find(([, each]) => each === id)?.[0];
  }

  /** Rows that the embeddings need at least. */
  get rows(): number {
    let most = -1;
    for (const id of this.ids.values()) most = Math.max(most, id);
    return most + 1;
  }

  /** What a role such as `pad_token` is played by. */
  role(name: string): string | undefined {
    for (const json of [this.config, this.along.get('special_tokens_map.json') ?? {}]) {
      const value = isJsonObject(json[name]) ? json[name]['content'] : json[name];
      if (typeof value === 'string') return value;
    }
    return undefined;
  }

  /** The token behind all others, if it is not there yet; returns its id. */
  add(token: string): number {
    const known = this.ids.get(token);
    if (known !== undefined) return known;
    const id = this.rows;
    this.ids.set(token, id);
    this.added.push({ token, id });
    const fields = {
      content: token,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    };
    const list = (this.tokenizer['added_tokens'] ?? []) as unknown[];
    this.tokenizer['added_tokens'] = [...list, { id, ...fields }];
    const decoder = this.config['added_tokens_decoder'];
    if (isJsonObject(decoder)) {
      this.config['added_tokens_decoder'] = { ...decoder, [String(id)]: fields };
    }
    const old = this.along.get('added_tokens.json');
    if (old !== undefined) old[token] = id;
    return id;
  }

  /** Gives a token a role, as `pad_token`. */
  setRole(name: string, token: string): void {
    this.config[name] = token;
    const map = this.along.get('special_tokens_map.json');
    if (map !== undefined) map[name] = token;
    this.hasNewRole = true;
  }

  private hasNewRole = false;

  /** The files, with `template` as the chat template. */
  companions(template: string | undefined): Companion[] {
    const isChanged = this.added.length > 0 || this.hasNewRole;
    const write = (name: string, json: Json | undefined, changed: boolean): Companion => ({
      name,
      content: changed && json !== undefined ? pythonJson(json) : { path: join(this.folder, name) },
    });
    // The template has a file of its own, which readers prefer.
    const { chat_template: inside, ...config } = this.config;
    const hasConfig = Object.keys(this.config).length > 0;
    return [
      write('tokenizer.json', this.tokenizer, this.added.length > 0),
      ...(hasConfig
        ? [write('tokenizer_config.json', config, isChanged || inside !== undefined)]
        : []),
      ...[...this.along].map(([name, json]) => write(name, json, isChanged)),
      ...(template === undefined ? [] : [{ name: 'chat_template.jinja', content: template }]),
    ];
  }

  private learn(file: string, token: unknown, id: unknown): void {
    if (typeof token !== 'string' || !Number.isSafeInteger(id) || (id as number) < 0) {
      throw broken(file, 'a token of it has no text or no id');
    }
    this.ids.set(token, id as number);
  }
}

/** One template, or the default of several by name. */
function templateOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const chosen = (value as unknown[]).find(
    (each) => isJsonObject(each) && each['name'] === 'default',
  );
  return isJsonObject(chosen) ? templateOf(chosen['template']) : undefined;
}

function broken(file: string, what: string): DataError {
  return new DataError(`${file} is no tokenizer: ${what}.`, {
    code: 'E_TOKENIZER_BROKEN',
    hint: 'Fetch the file again from where the model came from.',
  });
}
