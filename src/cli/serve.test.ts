import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { CHAT_FOLDER, LLAVA, PICTURE } from '../generate/testing.js';
import { patina } from './testing.js';

interface Listening {
  type: 'listening';
  url: string;
  key: string;
  models: string[];
}

/** A `patina serve --json` of its own. */
class Server {
  readonly child: ChildProcess;
  err = '';

  constructor(...args: string[]) {
    const bin = join(packageRoot(), 'bin/patina.js');
    const all = ['serve', ...args, '--port', '0', '--device', 'cpu', '--json'];
    this.child = spawn(process.execPath, [bin, ...all], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stderr!.on('data', (data) => (this.err += String(data)));
  }

  async listening(): Promise<Listening> {
    const [line] = (await once(createInterface(this.child.stdout!), 'line')) as [string];
    return JSON.parse(line) as Listening;
  }

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null) await once(this.child, 'close');
    return this.child.exitCode;
  }
}

const SMALL = join(LLAVA, 'llama31-tied-small');
const servers: Server[] = [];
afterEach(() => {
  for (const { child } of servers.splice(0)) child.kill('SIGKILL');
});
const start = (...args: string[]): Server => {
  const server = new Server(...args);
  servers.push(server);
  return server;
};

async function asked(
  { url, key }: Listening,
  model: string,
  change: object = {},
): Promise<unknown> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({
      ...{ model, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 12, ...change },
    }),
  });
  const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
  return choices[0]!.message.content;
}

async function metrics({ url, key }: Listening): Promise<string> {
  const headers = { authorization: `Bearer ${key}` };
  return (await fetch(`${url}/metrics`, { headers })).text();
}

/** What `patina chat` answers. */
async function chatted(...args: string[]): Promise<unknown> {
  const { out } = await patina(
    ...['chat', ...args, '--max-new-tokens', '12', '--device', 'cpu', '--json', 'Hello'],
  );
  return (JSON.parse(out) as { answer: string }).answer;
}

describe('patina serve', () => {
  it('gives the answers of `patina chat`, adapters by name, and ends in order', async () => {
    const named = ['--tokenizer', CHAT_FOLDER];
    const adapter = join(SMALL, 'adapter-lora-start');
    const server = start(
      ...[join(SMALL, 'hf'), ...named, '--name', 'base'],
      ...['--adapter', adapter, '--adapter', `other=${join(SMALL, 'adapter-rslora-dora-start')}`],
    );
    const listening = await server.listening();
    expect(listening).toMatchObject({
      ...{ type: 'listening', models: ['base', 'adapter-lora-start', 'other'] },
      url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) as string,
      key: expect.stringMatching(/^patina-.{32}$/) as string,
    });
    const wanted = await chatted(join(SMALL, 'hf'), ...named, '--adapter', adapter);
    expect(await asked(listening, 'adapter-lora-start')).toBe(wanted);
    expect(await asked(listening, 'base')).toBe(await chatted(join(SMALL, 'hf'), ...named));
    const last = asked(listening, 'other', { max_tokens: 900 });
    while (!(await metrics(listening)).includes('patina_running{model="other"} 1')) {
      await setTimeout(5);
    }
    server.child.kill('SIGTERM');
    expect(await last).toEqual(expect.any(String));
    expect(await server.ended()).toBe(130);
    expect(server.err).toContain('Finishing what has been asked');
  });

  it('says where it listens and what the key is, and warns where others reach it', async () => {
    const server = start(CHAT_FOLDER, '--host', '0.0.0.0');
    const { url, key } = await server.listening();
    while (!server.err.includes('API key')) await once(server.child.stderr!, 'data');
    expect(server.err).toContain(`API key: ${key}\n`);
    expect(server.err).toContain(`Serving hf at ${url}/v1, chat at ${url}/#key=${key}\n`);
    expect(server.err).toMatch(
      /warning: other machines reach this at http:\/\/.+: whoever has the key can ask/,
    );
    server.child.kill('SIGINT');
    expect(await server.ended()).toBe(130);
  });

  it('gives a key in the address of its page as that reads it', async () => {
    const server = start(CHAT_FOLDER, '--key', 'a+b&c #%20');
    await server.listening();
    while (!server.err.includes('#key=')) await once(server.child.stderr!, 'data');
    const [, hash] = /#(key=\S+)/.exec(server.err)!;
    expect(new URLSearchParams(hash).get('key')).toBe('a+b&c #%20');
  });

  const hasClient = spawnSync('python3', ['-c', 'import openai']).status === 0;
  it.skipIf(!hasClient)("answers OpenAI's Python client", async () => {
    const { url, key } = await start(CHAT_FOLDER, '--key', 'secret').listening();
    const script = join(packageRoot(), 'test/openai/check_client.py');
    const client = spawn('python3', [script, url, key, 'hf', PICTURE]);
    let out = '';
    client.stdout.on('data', (data) => (out += String(data)));
    await once(client, 'close');
    const answer = await chatted(CHAT_FOLDER, '--image', PICTURE);
    expect(JSON.parse(out)).toEqual({
      ...{ models: ['hf'], whole: answer, streamed: answer, finish: 'length' },
      ...{ logprobs: 12, usage: [12, 12] },
      errors: [
        ['NotFoundError', 404, 'model_not_found'],
        ['BadRequestError', 400, 'invalid_value'],
        ['AuthenticationError', 401, 'invalid_api_key'],
      ],
    });
  });

  it.each([
    ['a missing model', ['./nowhere'], 4, 'E_PATH_MISSING'],
    ['an empty key', [CHAT_FOLDER, '--key', ''], 2, 'E_KEY'],
    ['no port', [CHAT_FOLDER, '--port', '70000'], 2, 'E_USAGE'],
    ['two models of one name', [CHAT_FOLDER, '--adapter', 'hf=x'], 2, 'E_USAGE'],
    ['a missing adapter', [CHAT_FOLDER, '--adapter', './nowhere'], 4, 'E_PATH_MISSING'],
    ['a missing folder of files', [CHAT_FOLDER, '--files', './nowhere'], 2, 'E_FILES'],
  ])('refuses %s', async (_name, args, code, error) => {
    const { out, err, ...ended } = await patina('serve', ...args, '--device', 'cpu');
    expect({ out, ...ended }).toEqual({ out: '', code });
    expect(err).toContain(`code: ${error}\n`);
  });
});
