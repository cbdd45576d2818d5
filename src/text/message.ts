/** A conversation as every text format takes it: messages of text and images. */

export type Role = 'system' | 'user' | 'assistant';

export type Part =
  | { readonly type: 'text'; readonly text: string }
  /** `image` counts the images of the record from 0. */
  | { readonly type: 'image'; readonly image: number };

export interface Message {
  readonly role: Role;
  readonly content: readonly Part[];
}

/** A message of plain text. */
export function textMessage(role: Role, text: string): Message {
  return { role, content: [{ type: 'text', text }] };
}

/** Parts with neighbouring texts made one, and no empty text. */
export function joinTexts(parts: readonly Part[]): Part[] {
  const joined: Part[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (part.type === 'image') joined.push(part);
    else if (last?.type === 'text')
      joined.splice(-1, 1, { type: 'text', text: last.text + part.text });
    else if (part.text !== '') joined.push(part);
  }
  return joined;
}
