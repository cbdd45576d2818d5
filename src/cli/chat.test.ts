import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';

import { CHAT_FOLDER, greedyFacts, LLAVA, PICTURE } from '../generate/testing.js';
import type { CommandEntry } from './commands.js';
import { main } from './main.js';
import { define } from './usage/chat.js';

interface Screen {
  code: number;
  out: string;
  err: string;
}

async function chat(
  args: string[],
  { input = Readable.from([]), tty = false }: { input?: NodeJS.ReadableStream; tty?: boolean } = {},
): Promise<Screen> {
  const screen = { out: '', err: '' };
  const commands: CommandEntry[] = [
    {
      name: 'chat',
      summary: 'Chat',
      load: () =>
        Promise.resolve({ define: (command, session) => define(command, session, input) }),
    },
  ];
  const code = await main(['chat', ...args], {
    commands,
    stdout: { isTTY: tty, write: (text) => (screen.out += text) },
    stderr: { isTTY: tty, write: (text) => (screen.err += text) },
  });
  return { code, ...screen };
}

const [seen, , , plain] = greedyFacts('llama3') as [Fact, Fact, Fact, Fact];
type Fact = ReturnType<typeof greedyFacts>[number];
const SHORT = ['--max-new-tokens', '8', '--device', 'cpu'];

describe('patina chat', () => {
  it('answers one question about a picture, as plain text', async () => {
    const { code, out, err } = await chat([CHAT_FOLDER, '--image', PICTURE, ...SHORT, seen.user]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/\n$/);
    expect(out.slice(0, -1)).not.toBe('');
    expect(seen.text.startsWith(out.slice(0, -2))).toBe(true);
  });

  it('prints one object for an answer', async () => {
    const { out } = await chat([CHAT_FOLDER, ...SHORT, '--json', plain.user]);
    const { answer, ...rest } = JSON.parse(out) as { answer: string };
    expect(plain.text.startsWith(answer.replace(/�$/, ''))).toBe(true);
    expect(rest).toMatchObject({ finish: 'length', promptTokens: 30, newTokens: 8 });
    expect(out.trim().split('\n')).toHaveLength(1);
  });

  it('takes questions and commands from a pipe, and goes on after errors', async () => {
    const lines = [
      plain.user,
      '',
      '/reset',
      '/image nowhere.png',
      `/image "${PICTURE}"`,
      seen.user,
    ];
    const { code, out, err } = await chat([CHAT_FOLDER, ...SHORT, '--json'], {
      input: Readable.from([`${lines.join('\n')}\n/what\n/exit\nnot asked\n`]),
    });
    const printed = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(printed).toEqual([
      expect.objectContaining({ promptTokens: plain.input_ids.length }),
      { error: expect.objectContaining({ code: 'E_IMAGE_UNREADABLE' }) as unknown },
      expect.objectContaining({ promptTokens: seen.input_ids.length }),
    ]);
    expect(err).toContain('(1 picture for the next question)');
    expect(err).toContain('There is no command "/what".');
    expect(code).toBe(4);
  });

  it('keeps control characters from a terminal, and says how it went there', async () => {
    const args = [CHAT_FOLDER, '--max-new-tokens', '64', '--device', 'cpu', plain.user];
    const { out, err } = await chat(args, { tty: true });
    expect(plain.text).toMatch(/\u001b/);
    expect(out).not.toMatch(/[^\P{Cc}\n\t]/u);
    expect(err).toMatch(/weights: 100 %.*\(30 \+ 64 tokens, [\d.]+ tokens\/s\)\n$/s);
  });

  it('stops an answer on Ctrl-C, keeps what was said, and takes the next question', async () => {
    const input = new PassThrough();
    const running = chat([CHAT_FOLDER, '--max-new-tokens', '900', '--device', 'cpu', 'Go on.'], {
      input,
    });
    const before = process.listenerCount('SIGINT');
    while (process.listenerCount('SIGINT') === before) await new Promise(setImmediate);
    const interrupted = setInterval(() => process.emit('SIGINT'), 5);
    const { code, err } = await running;
    clearInterval(interrupted);
    expect({ code, err }).toEqual({ code: 130, err: '' });
  });

  it('obeys the settings of sampling and the system message', async () => {
    const args = [CHAT_FOLDER, ...SHORT, '--json', plain.user];
    const drawn = ['--temperature', '1.5', '--seed', '5'];
    const [first, again, other, told] = (await Promise.all([
      chat([...args, ...drawn]),
      chat([...args, ...drawn]),
      chat([...args, '--temperature', '1.5', '--seed', '6']),
      chat([...args, '--system', 'Be brief.']),
    ]).then((screens) => screens.map(({ out }) => JSON.parse(out) as Record<string, unknown>))) as [
      ...Record<'answer' | 'promptTokens', unknown>[],
    ];
    expect(first!.answer).toBe(again!.answer);
    expect(first!.answer).not.toBe(other!.answer);
    expect(told!.promptTokens).toBeGreaterThan(first!.promptTokens as number);
  });

  const foreign = join(LLAVA, 'llama31-tied-small', 'adapter-lora-start');
  it.each([
    ['a missing model', ['./nowhere', 'x'], 4, 'E_PATH_MISSING'],
    ['a missing picture', [CHAT_FOLDER, '--image', 'no.png', 'x'], 4, 'E_IMAGE_UNREADABLE'],
    ['an adapter of another model', [CHAT_FOLDER, '--adapter', foreign, 'x'], 4, 'E_TENSORS'],
    ['what is no adapter', [CHAT_FOLDER, '--adapter', CHAT_FOLDER, 'x'], 4, 'E_ADAPTER'],
    ['an unknown template', [CHAT_FOLDER, '--template', 'x', 'x'], 2, 'E_TEMPLATE_UNKNOWN'],
    ['an empty question', [CHAT_FOLDER, ' '], 2, 'E_USAGE'],
    ['no number', [CHAT_FOLDER, '--top-p', 'much', 'x'], 2, 'E_USAGE'],
    ['no limit', [CHAT_FOLDER, '--max-new-tokens', '0', 'x'], 2, 'E_USAGE'],
    ['a wrong number', [CHAT_FOLDER, '--top-p', '2', 'x'], 2, 'E_SAMPLING'],
    ['an unknown type', [CHAT_FOLDER, '--dtype', 'int4', 'x'], 2, 'E_USAGE'],
    ['an unknown device', [CHAT_FOLDER, '--device', 'tpu', 'x'], 2, 'E_DEVICE'],
    ['too long a prompt', [CHAT_FOLDER, 'word '.repeat(900)], 4, 'E_CONTEXT'],
  ])('refuses %s', async (_name, args, code, error) => {
    const screen = await chat(args);
    expect(screen).toMatchObject({ code, out: '' });
    expect(screen.err).toContain(`code: ${error}\n`);
  });
});
