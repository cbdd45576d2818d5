/** The text of a sample as the model reads it, special tokens spelled out, with what is learned marked. */
import type { EncodedSample, EncodeOptions } from '../data/encode.js';
import { IGNORED_LABEL, IMAGE_ID } from '../models/sample.js';

/** What stands around a stretch that is learned. */
export interface Marks {
  readonly begin: string;
  readonly end: string;
}

export const PLAIN_MARKS: Marks = { begin: '⟦', end: '⟧' };
/** Green, and underlined for those who see no green. */
export const COLOUR_MARKS: Marks = { begin: '\u001b[32;4m', end: '\u001b[0m' };

const utf8 = new TextDecoder();

export function renderSample(
  {
    inputIds,
    labels,
    imageTokens,
    truncated,
  }: Pick<EncodedSample, 'inputIds' | 'labels' | 'imageTokens' | 'truncated'>,
  { format: { tokenizer } }: Pick<EncodeOptions, 'format'>,
  { begin, end }: Marks,
): string {
  let text = '';
  let images = 0;
  for (let from = 0; from < inputIds.length;) {
    const kind = kindAt(from);
    let to = from + 1;
    while (kind !== 'image' && to < inputIds.length && kindAt(to) === kind) to++;
    const bytes = Array.from(inputIds.subarray(from, to), (id) => tokenizer.bytesOf(id));
    const run =
      kind === 'image' ? image(imageTokens[images++]!) : visible(utf8.decode(Buffer.concat(bytes)));
    text += kind === 'learned' ? `${begin}${run}${end}` : run;
    from = to;
  }
  return truncated === 0 ? text : `${text}\n[${truncated} tokens cut off here]`;

  function kindAt(i: number): 'image' | 'learned' | 'read' {
    if (inputIds[i] === IMAGE_ID) return 'image';
    return labels[i] === IGNORED_LABEL ? 'read' : 'learned';
  }
}

function image(tokens: number): string {
  return tokens === 1 ? '[image]' : `[image: ${tokens} tokens]`;
}

/** Control characters but line ends and tabs as pictures of themselves: data must not steer a terminal. */
function visible(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n\t]/gu, (character) => {
    const code = character.codePointAt(0)!;
    return code < 0x20 ? String.fromCodePoint(0x2400 + code) : '\u{fffd}';
  });
}
