/** How long a record is, about, without encoding it: enough to put records of like length together. */
import { isObject } from '../../text/json.js';
import { IMAGE_PLACEHOLDER } from '../../models/sample.js';

/** Bytes of text for a token; about right for byte-pair encodings, whatever the language. */
const BYTES_PER_TOKEN = 4;

/**
 * Estimated tokens of a record, at least 1; negative for one without images (as XTuner's `modality_length`). Images are
 * counted by their places in the text, so that Parquet need not be read with its images.
 *
 * @param imageTokens tokens of each of so many images
 */
export function measureRecord(json: unknown, imageTokens: (images: number) => number): number {
  let bytes = 0;
  let images = 0;
  const text = (value: unknown): void => {
    if (typeof value !== 'string') return;
    const places = value.split(IMAGE_PLACEHOLDER).length - 1;
    bytes += Buffer.byteLength(value) - places * IMAGE_PLACEHOLDER.length;
    images += places;
  };
  if (isObject(json)) text(json['system'] ?? json['system_prompt']);
  for (const message of messagesOf(json)) {
    const content = message['value'] ?? message['content'];
    for (const part of Array.isArray(content) ? (content as unknown[]) : [content]) {
      if (!isObject(part)) text(part);
      else if (part['type'] === 'text') text(part['text']);
      else images++;
    }
  }
  const tokens = Math.ceil(bytes / BYTES_PER_TOKEN) + images * imageTokens(images);
  return images > 0 ? tokens : -Math.max(1, tokens);
}

function messagesOf(json: unknown): Record<string, unknown>[] {
  if (!isObject(json)) return [];
  const list = json['conversations'] ?? json['messages'];
  return Array.isArray(list) ? list.filter(isObject) : [];
}
