/** Answers of a word or a phrase: exact match, GQA (Hudson and Manning 2019) and TextVQA (Singh et al. 2019). */
import { strip, stripEnd } from '../python-text.js';
import type { Harness } from '../task.js';
import { agreement, pythiaAnswer, vlmevalkitAnswer } from './vqa-text.js';
import { ONE_WORD } from './yes-no.js';

const PUNCTUATION = /[!-/:-@[-`{-~]/g;

/** lmms-eval's exact match: lower case, without ASCII punctuation. */
function lmmsEvalText(text: string): string {
  return strip(text).toLowerCase().replaceAll(PUNCTUATION, '');
}

function oneOf(plain: (text: string) => string, prompt: Harness['prompt'], most: number): Harness {
  return {
    prompt,
    maxNewTokens: most,
    grade(text, { answers }) {
      const extracted = plain(text);
      return { extracted, score: Number(answers.some((answer) => plain(answer) === extracted)) };
    },
  };
}

const asItIs: Harness['prompt'] = ({ question }) => question;
const inAWord: Harness['prompt'] = ({ question }) => question + ONE_WORD;

export const EXACT = {
  'lmms-eval': oneOf(lmmsEvalText, asItIs, 2048),
  vlmevalkit: oneOf((text) => strip(text).toLowerCase(), asItIs, 2048),
};

/** Of LLaVA's script, which the official one compares: only full stops at the end go. */
function llavaGqaText(text: string): string {
  return stripEnd(text, '.').toLowerCase();
}

export const GQA: Readonly<Record<'lmms-eval' | 'vlmevalkit' | 'llava', Harness>> = {
  'lmms-eval': oneOf(lmmsEvalText, inAWord, 16),
  vlmevalkit: oneOf((text) => strip(text).toLowerCase(), inAWord, 2048),
  llava: {
    prompt: inAWord,
    maxNewTokens: 128,
    grade(text, { answers: [answer] }) {
      const extracted = llavaGqaText(text);
      return { extracted, score: Number(extracted === answer) };
    },
  },
};

function vqa(plain: (text: string) => string, prompt: Harness['prompt'], most: number): Harness {
  return {
    prompt,
    maxNewTokens: most,
    grade(text, { answers }) {
      const extracted = plain(text);
      return { extracted, score: agreement(extracted, answers.map(plain)) };
    },
  };
}

export const TEXTVQA = {
  llava: vqa(pythiaAnswer, inAWord, 128),
  'lmms-eval': vqa(
    pythiaAnswer,
    // Python's `capitalize`.
    ({ question }) => question.charAt(0).toUpperCase() + question.slice(1).toLowerCase() + ONE_WORD,
    1024,
  ),
  vlmevalkit: vqa(vlmevalkitAnswer, inAWord, 2048),
};
