/**
 * Pictures of any resolution (`anyres`, Liu et al. 2024, LLaVA-NeXT): beside a view of the whole picture the model sees it in tiles
 * of the tower's size, laid out on the resolution that suits it best. Features of what pads the picture are left out again, and a
 * learned vector ends each row of those that stay, as transformers' `LlavaNextForConditionalGeneration` arranges them.
 *
 * Its `LlavaOnevisionForConditionalGeneration` (Li et al. 2024, LLaVA-OneVision) limits what a picture takes: features of many tiles are
 * interpolated to those of fewer, and of several pictures in one sample each is seen as one square, whose end the vector marks.
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
  /**
   * The resolutions to choose from, each of whole tiles: transformers' `image_grid_pinpoints`; none where pictures are seen as a whole
   * alone.
   */
  readonly pinpoints: readonly PictureSize[];
  /** Pixels along each side of a tile, and of the whole picture's view. */
  readonly size: number;
  /** Features along each side of a view. */
  readonly patches: number;
  /**
   * Of a LLaVA-OneVision, N of its `anyres_max_N`: the features of tiles of clearly more than N views are interpolated to about as many
   * as N have. @default it is a LLaVA-NeXT, which keeps all
   */
  readonly max?: number | undefined;
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

/** The facts for each picture of a sample that has so many: a LLaVA-OneVision cuts none of several. */
export function tilesAmong(facts: TileFacts, pictures: number): TileFacts {
  return facts.max === undefined || pictures < 2 ? facts : { ...facts, pinpoints: [] };
}

/** The resolution that keeps most of a picture's own pixels, and of several such the one that wastes least; none where there are none. */
export function bestResolution(
  { height, width }: PictureSize,
  { pinpoints }: Pick<TileFacts, 'pinpoints'>,
): PictureSize {
  let best: PictureSize = pinpoints[0] ?? { height: 0, width: 0 };
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

/** Where a picture lies within the features of its tiles, which it fills along one side: [first, end) of rows and columns. */
export interface Unpadded {
  readonly rows: readonly [first: number, end: number];
  readonly columns: readonly [first: number, end: number];
}

/** Rows and columns of features, of tiles that are not all padding. */
export interface FeatureRows {
  /** Those of all tiles that show the picture. */
  readonly unpadded: Unpadded;
  /** How many these are. */
  readonly from: TileGrid;
  /** How many become tokens; where these are fewer, the features are interpolated. */
  readonly to: TileGrid;
}

export function featureRows(picture: PictureSize, facts: TileFacts): FeatureRows {
  const grid = tileGrid(picture, facts);
  const filled = unpadded(picture, grid.rows * facts.patches, grid.columns * facts.patches);
  const from = {
    rows: filled.rows[1] - filled.rows[0],
    columns: filled.columns[1] - filled.columns[0],
  };
  return { unpadded: filled, from, to: limited(from, facts) };
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

function limited(from: TileGrid, { patches, max = Infinity }: TileFacts): TileGrid {
  const ratio = Math.sqrt((from.rows * from.columns) / (max * patches ** 2));
  if (ratio <= 1.1) return from;
  return { rows: floorDivided(from.rows, ratio), columns: floorDivided(from.columns, ratio) };
}

/** `a // b` of Python for numbers above 0, which is not always the floor of the rounded quotient. */
function floorDivided(a: number, b: number): number {
  return Math.round((a - (a % b)) / b);
}

/** Image tokens that a picture takes: those of the whole view, and of rows of tiles with the vector that ends each. */
export function tiledTokens(picture: PictureSize, facts: TileFacts): number {
  if (facts.pinpoints.length === 0) return wholeTokens(facts);
  return facts.patches ** 2 + tokensOfRows(featureRows(picture, facts).to);
}

/** Image tokens of one that has no tiles: the vector ends the whole. */
export function wholeTokens({ patches }: Pick<TileFacts, 'patches'>): number {
  return patches ** 2 + 1;
}

function tokensOfRows({ rows, columns }: TileGrid): number {
  const newlines = rows;
  return rows * columns + newlines;
}

/** The most that {@link tiledTokens} and {@link viewCount} give for any picture. */
export function mostOf(facts: TileFacts): { tokens: number; views: number } {
  const { pinpoints, size, patches } = facts;
  let [tokens, views] = [1, 1];
  for (const { height, width } of pinpoints) {
    const [rows, columns] = [(height / size) * patches, (width / size) * patches];
    views = Math.max(views, 1 + (rows * columns) / patches ** 2);
    // Not always those of most features: these are interpolated to fewer.
    for (let margin = 0; 2 * margin < Math.max(rows, columns); margin++) {
      for (const from of [
        { rows: rows - 2 * margin, columns },
        { rows, columns: columns - 2 * margin },
      ]) {
        if (from.rows <= 0 || from.columns <= 0) continue;
        tokens = Math.max(tokens, tokensOfRows(limited(from, facts)));
      }
    }
  }
  return { tokens: patches ** 2 + tokens, views };
}
