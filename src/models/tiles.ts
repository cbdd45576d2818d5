/**
 * Pictures of any resolution (`anyres`, Liu et al. 2024, LLaVA-NeXT): beside a view of the whole picture the model sees it in tiles
 * of the tower's size, laid out on the resolution that suits it best. Features of what pads the picture are left out again, and a
 * learned vector ends each row of those that stay, as transformers' `LlavaNextForConditionalGeneration` arranges them.
 *
 * Everything here follows from the size of a picture, in whole numbers as transformers rounds them; nothing needs libtorch.
 */
/** Height and width in pixels. */
export interface PictureSize {
  readonly height: number;
  readonly width: number;
}

/** How a model takes pictures in tiles. */
export interface TileFacts {
  /** The resolutions to choose from, at least one, each of whole tiles: transformers' `image_grid_pinpoints`. */
  readonly pinpoints: readonly PictureSize[];
  /** Pixels along each side of a tile, and of the whole picture's view. */
  readonly size: number;
  /** Features along each side of a view. */
  readonly patches: number;
}

/** Tiles along each side. */
export interface TileGrid {
  readonly rows: number;
  readonly columns: number;
}

/** A picture in views: the whole one, then its tiles row by row. */
export interface TiledPixels extends PictureSize {
  /** (V, 3, S, S) normalised, or bytes (V, S, S, 3). */
  readonly views: Float32Array | Uint8Array;
}

/** The resolution that keeps most of a picture's own pixels, and of several such the one that wastes least. */
export function bestResolution(
  { height, width }: PictureSize,
  { pinpoints }: Pick<TileFacts, 'pinpoints'>,
): PictureSize {
  let best = pinpoints[0]!;
  let [most, least] = [0, Infinity];
  for (const each of pinpoints) {
    const scale = Math.min(each.width / width, each.height / height);
    const scaled = Math.trunc(width * scale) * Math.trunc(height * scale);
    const kept = Math.min(scaled, width * height);
    const wasted = each.width * each.height - kept;
    if (kept > most || (kept === most && wasted < least)) {
      [best, most, least] = [each, kept, wasted];
    }
  }
  return best;
}

/** The tiles of a picture. */
export function tileGrid(picture: PictureSize, facts: TileFacts): TileGrid {
  const { height, width } = bestResolution(picture, facts);
  return { rows: height / facts.size, columns: width / facts.size };
}

/** Views of a picture: the whole one and the tiles. */
export function viewCount(picture: PictureSize, facts: TileFacts): number {
  const { rows, columns } = tileGrid(picture, facts);
  return 1 + rows * columns;
}

/** Where an image lies within the features of its tiles, which it fills along one side: [first, end) of rows and columns. */
interface Unpadded {
  readonly rows: readonly [first: number, end: number];
  readonly columns: readonly [first: number, end: number];
}

function unpadded({ height, width }: PictureSize, rows: number, columns: number): Unpadded {
  if (width / height > columns / rows) {
    const margin = marginOf(rows, height * (columns / width));
    return { rows: [margin, rows - margin], columns: [0, columns] };
  }
  const margin = marginOf(columns, width * (rows / height));
  return { rows: [0, rows], columns: [margin, columns - margin] };
}

/** `(all - int(round(used, 7))) // 2` */
function marginOf(all: number, used: number): number {
  return Math.floor((all - Math.trunc(Number(used.toFixed(7)))) / 2);
}

/** Image tokens that a picture takes. */
export function tiledTokens(picture: PictureSize, facts: TileFacts): number {
  const { patches } = facts;
  const grid = tileGrid(picture, facts);
  const { rows, columns } = unpadded(picture, grid.rows * patches, grid.columns * patches);
  const newlines = 1;
  return patches ** 2 + (rows[1] - rows[0]) * (columns[1] - columns[0] + newlines);
}

/** The most that {@link tiledTokens} and {@link viewCount} give for any picture. */
export function mostOf({ pinpoints, size, patches }: TileFacts): { tokens: number; views: number } {
  const grids = pinpoints.map(({ height, width }) => [height / size, width / size] as const);
  const most = (of: (rows: number, columns: number) => number): number =>
    Math.max(...grids.map(([rows, columns]) => of(rows, columns)));
  return {
    tokens: patches ** 2 + most((rows, columns) => rows * patches * (columns * patches + 1)),
    views: 1 + most((rows, columns) => rows * columns),
  };
}

/** Stands for the vector that ends a row, in {@link arrangedFeatures}. */
export const NEWLINE = -1;

/**
 * Which features a picture's tokens are, in their order: those of the whole view, then row by row through all tiles what the picture
 * fills, each row ended by {@link NEWLINE}. Features count from the first of the picture's first view, view after view.
 */
export function arrangedFeatures(picture: PictureSize, facts: TileFacts): number[] {
  const { patches } = facts;
  const each = patches ** 2;
  const grid = tileGrid(picture, facts);
  const { rows, columns } = unpadded(picture, grid.rows * patches, grid.columns * patches);
  const features = Array.from({ length: each }, (_, i) => i);
  for (let y = rows[0]; y < rows[1]; y++) {
    for (let x = columns[0]; x < columns[1]; x++) {
      const tile = Math.floor(y / patches) * grid.columns + Math.floor(x / patches);
      features.push((1 + tile) * each + (y % patches) * patches + (x % patches));
    }
    features.push(NEWLINE);
  }
  return features;
}
