import { describe, expect, it } from 'vitest';

import { readChatRequest } from './chat-request.js';

describe('a request that is refused', () => {
  const refused = (change: object): unknown => {
    const messages = [{ role: 'user', content: 'Hello' }];
    try {
      return readChatRequest(JSON.stringify({ model: 'm', messages, ...change }));
    } catch (error) {
      return (error as Error).message;
    }
  };

  it.each([
    [{ max_tokens: -1 }, 'max_tokens: Too small: expected number to be >=1 (given: -1).'],
    [{ n: '2' }, 'n: Invalid input: expected number, received string (given: "2").'],
    [
      { user: 5, messages: [{ role: 'user', content: 5 }] },
      'messages[0].content: Invalid input: expected a text or a list of parts (given: 5).',
    ],
    [{ stop: {} }, 'stop: Invalid input: expected a text or a list of texts.'],
    [
      { stop: ['', 'x'] },
      'stop[0]: Too small: expected string to have >=1 characters (given: "").',
    ],
  ])('%j says what field and value', (change, message) => {
    expect(refused(change)).toBe(message);
  });

  it('does not say all of a value that is long', () => {
    expect(String(refused({ n: 'x'.repeat(1e6) })).length).toBeLessThan(300);
  });
});
