/** Pictures of the quickstart: one to three like shapes of one colour on a dark ground, each in a quarter of its own. */
import sharp from 'sharp';

export const SIDE = 32;
export const SHAPES = ['circle', 'square', 'triangle', 'cross'] as const;
export const COLOURS = [
  'red',
  'orange',
  'yellow',
  'green',
  'cyan',
  'blue',
  'purple',
  'white',
] as const;
export const PLACES = ['top left', 'top right', 'bottom left', 'bottom right'] as const;

export type Shape = (typeof SHAPES)[number];
export type Colour = (typeof COLOURS)[number];

/** What is in a picture, and where and how large each shape is. */
export interface Scene {
  readonly shape: Shape;
  readonly colour: Colour;
  readonly ground: Rgb;
  /** What is added to red, green and blue of the ink. */
  readonly tint: Rgb;
  readonly marks: readonly Mark[];
}

export interface Mark {
  /** Index into {@link PLACES}. */
  readonly place: number;
  /** Centre and half of the extent, in pixels. */
  readonly x: number;
  readonly y: number;
  readonly radius: number;
}

/** Red, green and blue, 0 to 255. */
export type Rgb = readonly [red: number, green: number, blue: number];

const INKS: Readonly<Record<Colour, Rgb>> = {
  red: [220, 60, 65],
  orange: [230, 135, 60],
  yellow: [230, 215, 75],
  green: [65, 175, 80],
  cyan: [70, 210, 220],
  blue: [65, 90, 225],
  purple: [165, 65, 200],
  white: [235, 235, 235],
};

/** The bytes of an image file. */
export function drawScene(scene: Scene, format: 'png' | 'jpeg'): Promise<Buffer> {
  const { shape, colour, ground, tint, marks } = scene;
  const ink = INKS[colour].map((value, i) => Math.min(255, value + tint[i]!));
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${SIDE}" height="${SIDE}">` +
    `<rect width="100%" height="100%" fill="rgb(${ground.join()})"/>` +
    `<g fill="rgb(${ink.join()})">${marks.map((mark) => outline(shape, mark)).join('')}</g></svg>`;
  const image = sharp(Buffer.from(svg)).removeAlpha();
  // Without subsampling: a JPEG this small would lose its colours.
  return format === 'png'
    ? image.png().toBuffer()
    : image.jpeg({ quality: 95, chromaSubsampling: '4:4:4' }).toBuffer();
}

function outline(shape: Shape, { x, y, radius: r }: Mark): string {
  switch (shape) {
    case 'circle':
      return `<circle cx="${x}" cy="${y}" r="${r}"/>`;
    case 'square':
      return `<rect x="${x - r}" y="${y - r}" width="${2 * r}" height="${2 * r}"/>`;
    case 'triangle':
      return `<path d="M${x} ${y - r} L${x + r} ${y + r} L${x - r} ${y + r} Z"/>`;
    case 'cross': {
      const arm = r / 3;
      return (
        `<rect x="${x - r}" y="${y - arm}" width="${2 * r}" height="${2 * arm}"/>` +
        `<rect x="${x - arm}" y="${y - r}" width="${2 * arm}" height="${2 * r}"/>`
      );
    }
  }
}
