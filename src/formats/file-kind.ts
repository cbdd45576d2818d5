/** What a file is, told by its first bytes: files often are not what their names promise. */
import { DataError } from '../base/errors.js';

/** Bytes of the head that `fileKind` wants to see. */
export const HEAD_BYTES = 512;

interface KindFacts {
  /** Ends the sentence "it is ...". */
  readonly what: string;
  readonly hint: string;
  readonly test: (text: string, head: Buffer, size: number) => boolean;
}

const starts =
  (magic: string) =>
  (text: string): boolean =>
    text.startsWith(magic);

const packed = (by: string, magic: string): KindFacts => ({
  what: `packed by ${by}`,
  hint: 'Unpack it first.',
  test: starts(magic),
});

/** What to do about a GGUF file that is given as a model. */
export const ONLY_WRITTEN =
  'GGUF files are for llama.cpp: name the model that they were made from.';

const KINDS = {
  empty: {
    what: 'empty',
    hint: 'Download or copy the file again.',
    test: (_text, _head, size) => size === 0,
  },
  zip: {
    what: 'a zip archive',
    hint: 'If torch wrote it, name it .pt, .pth or .bin.',
    test: starts('PK'),
  },
  // An 8-byte length of the header that fits into the file, then the header's first brace.
  safetensors: {
    what: 'a safetensors file',
    hint: 'Name it .safetensors.',
    test: (text, head, size) =>
      text[8] === '{' && head.readBigUInt64LE() >= 2n && head.readBigUInt64LE() <= BigInt(size - 8),
  },
  gguf: { what: 'a GGUF file', hint: ONLY_WRITTEN, test: starts('GGUF') },
  'git-lfs': {
    what: 'a Git LFS pointer that stands for the file',
    hint: 'Fetch the file itself with `git lfs pull`, or download it from the hub.',
    test: starts('version https://git-lfs'),
  },
  page: {
    what: 'a web page',
    hint: 'Read what the page says, then download the file again.',
    test: (text) => /^\s*<(!doctype|html|\?xml|head|body)/i.test(text),
  },
  tar: {
    what: 'a tar archive',
    hint: 'Unpack it; if torch before 0.1.10 wrote it, save its weights again as safetensors.',
    test: (text) => text.slice(257, 262) === 'ustar',
  },
  gzip: packed('gzip', '\x1f\x8b'),
  zstd: packed('zstd', '\x28\xb5\x2f\xfd'),
  xz: packed('xz', '\xfd7zXZ\0'),
  bzip2: packed('bzip2', 'BZh'),
  '7zip': packed('7-Zip', "7z\xbc\xaf'\x1c"),
} satisfies Record<string, KindFacts>;

/** A kind of file that is known by its head. */
export type FileKind = keyof typeof KINDS;

/** The kind of a file of `size` bytes that begins with `head`; undefined for legacy pickles and what is unknown. */
export function fileKind(head: Uint8Array, size: number): FileKind | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const text = bytes.toString('latin1');
  const isKind = (facts: KindFacts): boolean => facts.test(text, bytes, size);
  return (Object.keys(KINDS) as FileKind[]).find((kind) => isKind(KINDS[kind]));
}

/**
 * Throws if the head shows another kind than the one that the reader is for.
 *
 * @param reader What the reader is for, as `a checkpoint of torch`.
 * @throws DataError E_WRONG_KIND
 */
export function refuseOtherKinds(
  path: string,
  kind: FileKind | undefined,
  { accept, reader }: { accept: FileKind; reader: string },
): void {
  if (kind === undefined || kind === accept) return;
  const { what, hint } = KINDS[kind];
  throw new DataError(`${path} is not ${reader}: it is ${what}.`, { code: 'E_WRONG_KIND', hint });
}
