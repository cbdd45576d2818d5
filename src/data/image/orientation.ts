/**
 * The orientation of an image from its metadata: EXIF tag 0x0112 first, and where EXIF has no such tag
 * `tiff:Orientation` in XMP (EXIF 2.32; XMP specification, part 2). Pillow's `exif_transpose` decides the same way.
 */
import { Directory } from './directory.js';

export const ORIENTATION_TAG = 0x0112;

/** 1 to 8, from the metadata that a file has. */
export function orientation(exif: Buffer | undefined, xmp: Buffer | undefined): number {
  return existing(exifOrientation(exif) ?? xmpOrientation(xmp));
}

/** The value if it exists; any other, as 0 or 9, turns nothing. */
export function existing(value: number | undefined): number {
  return value !== undefined && [1, 2, 3, 4, 5, 6, 7, 8].includes(value) ? value : 1;
}

/** The value of the tag, 0 if it holds no number, undefined if there is no tag or no legible EXIF. */
function exifOrientation(exif: Buffer | undefined): number | undefined {
  if (exif === undefined) return undefined;
  let start = 0;
  while (exif.toString('latin1', start, start + 6) === 'Exif\0\0' && start < 12) start += 6;
  try {
    return directoryOrientation(new Directory(exif.subarray(start)));
  } catch (error) {
    // Damaged EXIF is no reason to lose a picture.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** As `exifOrientation`, for a directory that is already read. */
export function directoryOrientation(directory: Directory): number | undefined {
  return directory.has(ORIENTATION_TAG) ? (directory.number(ORIENTATION_TAG) ?? 0) : undefined;
}

export function xmpOrientation(xmp: Buffer | undefined): number | undefined {
  const digit = /tiff:Orientation(?:="|>)([0-9])/.exec(xmp?.toString('latin1') ?? '')?.[1];
  return digit === undefined ? undefined : Number(digit);
}
