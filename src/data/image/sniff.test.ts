import { describe, expect, it } from 'vitest';

import { ImageError } from './rgb-image.js';
import { sniff } from './sniff.js';

const kind = (text: string) => sniff(Buffer.from(text, 'latin1'), 'a.jpg');

describe('sniff', () => {
  it.each([
    ['\xff\xd8\xff\xe0', 'jpeg'],
    ['\x89PNG\r\n\x1a\n', 'png'],
    ['RIFF\n\n\n\nWEBP', 'webp'],
    ['GIF87a', 'gif'],
    ['GIF89a', 'gif'],
    ['II*\0', 'tiff'],
    ['MM\0*', 'tiff'],
    ['II+\0', 'tiff'],
    ['BM', 'bmp'],
  ])('knows %j', (magic, format) => {
    expect(kind(magic)).toBe(format);
  });

  it.each([
    ['version https://git-lfs.github.com/spec/v1\n', 'Git LFS pointer', 'git lfs pull'],
    ['\n<!DOCTYPE html><html>', 'web page', 'Fetch the image again'],
    ['<svg xmlns="http://www.w3.org/2000/svg"/>', 'SVG', 'Convert'],
    ['<?xml version="1.0"?>\n<!-- x --><svg/>', 'SVG', 'Convert'],
    ['\0\0\0\x1cftypavif', 'AVIF', 'Convert'],
    ['%PDF-1.4', 'PDF', 'Convert'],
    ['PK\x03\x04', 'archive', 'Convert'],
    ['hello', 'no JPEG, PNG, WebP, GIF, TIFF or BMP', 'Convert'],
    ['', 'empty', 'Fetch'],
  ])('says what %j is instead', (text, what, hint) => {
    const error = (() => {
      try {
        return kind(text);
      } catch (caught) {
        return caught;
      }
    })();
    expect(error).toBeInstanceOf(ImageError);
    expect((error as ImageError).message).toMatch(/^a\.jpg: /);
    expect((error as ImageError).message).toContain(what);
    expect((error as ImageError).hint).toContain(hint);
  });
});
