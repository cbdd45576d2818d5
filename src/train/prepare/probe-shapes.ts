/** How long the prompts of probe questions are, as their tokenizer counts them: what memory they take depends on it alone. */

import type { Recipe } from '../../config/index.js';
import { encodePrompt, questionOf, type ChatModel } from '../../generate/index.js';
import { textMessage } from '../../text/index.js';
import type { ProbeShape } from '../loop/prediction.js';

/** @param system what conversations begin with. @default nothing */
export function probeShapes(
  chat: Pick<ChatModel, 'format' | 'model'>,
  { probes: { questions, maxNewTokens } }: Pick<Recipe, 'probes'>,
  system = '',
): ProbeShape[] {
  return questions.map(({ text, images }) => {
    const pictures = images.map((_, i) => i);
    const before = system === '' ? [] : [textMessage('system', system)];
    const { inputIds } = encodePrompt(chat, [...before, questionOf(text, pictures)]);
    return { tokens: inputIds.length, images: images.length, newTokens: maxNewTokens };
  });
}
