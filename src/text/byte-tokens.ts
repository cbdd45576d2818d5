/**
 * How tokens spell bytes: byte-level vocabularies write each byte as a visible character (GPT-2's table),
 * SentencePiece-like ones fall back to tokens such as `<0x0A>`.
 */

/** GPT-2's visible character of each of the 256 bytes. */
const BYTE_CHARACTERS: readonly string[] = (() => {
  const visible = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(visible(byte) ? byte : next++),
  );
})();

const BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

const utf8 = new TextEncoder();

/** A text's UTF-8 bytes in GPT-2's visible characters. */
export function spellBytes(text: string): string {
  let spelled = '';
  for (const byte of utf8.encode(text)) spelled += BYTE_CHARACTERS[byte]!;
  return spelled;
}

/** The bytes that a byte-level token spells; a token with other characters is its own text, as in Rust. */
export function unspellBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTES.get(token[i]!);
    if (byte === undefined) return utf8.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}

/** The byte of a token such as `<0x0A>`, else undefined. */
export function fallbackByte(token: string): number | undefined {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  return match ? Number.parseInt(match[1]!, 16) : undefined;
}
