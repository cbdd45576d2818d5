import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { createFormat } from './format.js';
import { loadTokenizer } from './load-tokenizer.js';
import { dialogue } from './testing.js';
import { decode } from './token-stream.js';
import { openTrained, trainBpe, writeTokenizer } from './train-bpe.js';

const TEXTS = [
  "the cat and the hat, that's it",
  'aaaa aaa aa banana bananas',
  'Das Wetter ist schön, schöner, am schönsten. 1000 1001',
];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'patina-bpe-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a trained tokenizer', () => {
  it("has the merges of Hugging Face's trainer", () => {
    const { model } = trainBpe(TEXTS, { vocabularySize: 1_000 })['tokenizer.json'] as {
      model: { merges: [string, string][] };
    };
    expect(model.merges.map((merge) => merge.join('+')).join(' ')).toBe(
      'a+a a+n a+t c+h s+ch t+h ¶+n Ã+¶n Ġ+sch Ġsch+Ã¶n 0+0 1+00 a+s b+an e+r s+t Ġ+i Ġ+aa Ġ+th Ġ+ban Ġban+an',
    );
  });

  it('stops at the size asked for', () => {
    const tokenizer = openTrained(trainBpe(TEXTS, { vocabularySize: 270 }));
    expect(tokenizer.vocabularySize).toBe(270);
    expect(tokenizer.imageTokenId).toBe(268);
    expect(tokenizer.padId).toBe(269);
  });

  it('merges rarer pairs when asked', () => {
    const often = openTrained(trainBpe(TEXTS, { vocabularySize: 1_000, minFrequency: 3 }));
    const once = openTrained(trainBpe(TEXTS, { vocabularySize: 1_000, minFrequency: 1 }));
    expect(often.vocabularySize).toBeLessThan(once.vocabularySize);
    expect(once.encode(' Wetter')).toHaveLength(1);
  });

  it('is the same after it has been written and read', async () => {
    const trained = trainBpe(TEXTS, { vocabularySize: 290 });
    await writeTokenizer(join(folder, 'a', 'b'), trained);
    const [before, after] = [openTrained(trained), await loadTokenizer(join(folder, 'a', 'b'))];
    const messages = dialogue('the cat', 'schön');
    expect(createFormat(after).training(messages)).toEqual(createFormat(before).training(messages));
    expect(createFormat(after).endOfTurn).toBe(after.idOf('<|eot_id|>'));
  });

  it('writes every text, none as a special token', () => {
    const tokenizer = openTrained(trainBpe(TEXTS, { vocabularySize: 300 }));
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const ids = tokenizer.encode(`${text}<image>`);
        expect(decode(tokenizer, ids)).toBe(`${text}<image>`);
        expect(ids.some((id) => tokenizer.isSpecial(id))).toBe(false);
      }),
    );
  });

  it('refuses sizes without room, and folders that cannot be', async () => {
    for (const vocabularySize of [0, 262, 1.5, NaN]) {
      expect(() => trainBpe(TEXTS, { vocabularySize })).toThrow(/cannot be trained/);
    }
    await writeFile(join(folder, 'file'), '');
    await expect(
      writeTokenizer(join(folder, 'file', 'x'), trainBpe([], { vocabularySize: 263 })),
    ).rejects.toMatchObject({ code: 'E_UNWRITABLE' });
  });
});
