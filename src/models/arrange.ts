/**
 * Which features the tokens of pictures in tiles are: those of the whole view, then row by row through all tiles what the picture
 * fills, each row ended by a learned vector, as transformers' `pack_image_features` of LLaVA-NeXT and LLaVA-OneVision joins them. Where
 * a LLaVA-OneVision limits a picture, its rows are interpolated first. Everything follows from sizes; nothing needs libtorch.
 *
 * The tokens are picked from one list: the features of all views, view after view; those that are interpolated, picture after picture;
 * the vector.
 */
import {
  featureRows,
  type PictureSize,
  type TileFacts,
  type TileGrid,
  tileGrid,
  tilesAmong,
  viewCount,
} from './tiles.js';

/** Features of a picture's tiles that become others, between them. */
export interface Interpolation {
  /** Places of the features, row by row. */
  readonly features: readonly number[];
  readonly from: TileGrid;
  readonly to: TileGrid;
}

export interface Arrangement {
  /** Places of the tokens, in their order. */
  readonly tokens: readonly number[];
  readonly interpolations: readonly Interpolation[];
}

/** A picture, and how those of its sample are cut. */
interface CutPicture {
  readonly picture: PictureSize;
  readonly facts: TileFacts;
}

/** Stands for the vector until its place is known. */
const NEWLINE = -1;

/** @param samples the pictures of each, whose views lie one after another */
export function arrange(
  samples: readonly (readonly PictureSize[])[],
  tiles: TileFacts,
): Arrangement {
  const pictures = samples.flatMap((own): CutPicture[] => {
    const facts = tilesAmong(tiles, own.length);
    return own.map((picture) => ({ picture, facts }));
  });
  const tokens: number[] = [];
  const interpolations: Interpolation[] = [];
  let first = 0;
  let behind = pictures.reduce((sum, each) => sum + featuresOf(each), 0);
  for (const { picture, facts } of pictures) {
    const whole = facts.patches ** 2;
    for (let i = 0; i < whole; i++) tokens.push(first + i);
    if (facts.pinpoints.length === 0) tokens.push(NEWLINE);
    else {
      const { from, to } = featureRows(picture, facts);
      const features = tileFeatures(picture, facts).map((feature) => first + whole + feature);
      const isSame = from.rows === to.rows && from.columns === to.columns;
      if (!isSame) interpolations.push({ features, from, to });
      for (let y = 0; y < to.rows; y++) {
        for (let x = 0; x < to.columns; x++) {
          tokens.push(isSame ? features[y * to.columns + x]! : behind++);
        }
        tokens.push(NEWLINE);
      }
    }
    first += featuresOf({ picture, facts });
  }
  return {
    tokens: tokens.map((token) => (token === NEWLINE ? behind : token)),
    interpolations,
  };
}

/** Features of all views of a picture. */
function featuresOf({ picture, facts }: CutPicture): number {
  return viewCount(picture, facts) * facts.patches ** 2;
}

/** The features of its tiles that show a picture, row by row; counted from the first of the first tile. */
function tileFeatures(picture: PictureSize, facts: TileFacts): number[] {
  const { patches } = facts;
  const { columns: tiles } = tileGrid(picture, facts);
  const { rows, columns } = featureRows(picture, facts).unpadded;
  const features: number[] = [];
  for (let y = rows[0]; y < rows[1]; y++) {
    for (let x = columns[0]; x < columns[1]; x++) {
      const tile = Math.floor(y / patches) * tiles + Math.floor(x / patches);
      features.push(tile * patches ** 2 + (y % patches) * patches + (x % patches));
    }
  }
  return features;
}
