/** What the reader of a format's head gives; the rules where files are ambiguous are Pillow's. */
export interface FormatHeader {
  /** Width and height as stored, before the orientation turns them. */
  width: number;
  height: number;
  /** EXIF orientation, 1 to 8, where 1 is upright. */
  orientation: number;
  /** What is stored: colours or grey, 16-bit grey, the inks of CMYK, or colours multiplied by their alpha. */
  samples: 'rgb' | 'grey16' | 'cmyk' | 'premultiplied';
}

/**
 * Reads the head of a file of one format. Reads are checked by Buffer and DataView: one behind the end of the file throws
 * a RangeError, which `readHeader` takes for a file that is cut off.
 */
export type HeaderReader = (file: Buffer, name: string) => FormatHeader;
