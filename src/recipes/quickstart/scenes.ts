/** The scenes of the quickstart, split so that training never shows what is asked about afterwards. */
import { Random } from '../../data/sampling/random.js';
import { COLOURS, PLACES, SHAPES, SIDE, type Colour, type Scene, type Shape } from './draw.js';

/** Shapes and colours that training shows apart, never together. */
const UNSEEN: readonly (readonly [Shape, Colour])[] = [
  ['circle', 'blue'],
  ['square', 'yellow'],
  ['triangle', 'red'],
  ['cross', 'green'],
];

export interface Scenes {
  readonly train: readonly Scene[];
  /** Other pictures of combinations that training shows. */
  readonly heldOut: readonly Scene[];
  /** Pictures of combinations that it does not show. */
  readonly unseen: readonly Scene[];
}

export function makeScenes(
  counts: { train: number; heldOut: number; unseen: number },
  seed: number,
): Scenes {
  const random = new Random(seed, 'quickstart');
  const isUnseen = ({ shape, colour }: Scene): boolean =>
    UNSEEN.some((pair) => pair[0] === shape && pair[1] === colour);
  const take = (count: number, wanted: (scene: Scene) => boolean): Scene[] => {
    const scenes: Scene[] = [];
    while (scenes.length < count) {
      const scene = drawLots(random);
      if (wanted(scene)) scenes.push(scene);
    }
    return scenes;
  };
  const seen = (scene: Scene): boolean => !isUnseen(scene);
  return {
    train: take(counts.train, seen),
    heldOut: take(counts.heldOut, seen),
    unseen: take(counts.unseen, isUnseen),
  };
}

function drawLots(random: Random): Scene {
  const between = (low: number, high: number): number =>
    low + (random.below(1001) / 1000) * (high - low);
  const level = (): number => Math.round(between(0, 40));
  const shade = (): number => Math.round(between(-20, 20));
  const count = 1 + random.below(3);
  const places = random
    .shuffle([...PLACES.keys()])
    .slice(0, count)
    .sort();
  const quarter = SIDE / 2;
  return {
    shape: SHAPES[random.below(SHAPES.length)]!,
    colour: COLOURS[random.below(COLOURS.length)]!,
    ground: [level(), level(), level()],
    tint: [shade(), shade(), shade()],
    marks: places.map((place) => ({
      place,
      x: quarter * (place % 2) + between(7, 9),
      y: quarter * Math.floor(place / 2) + between(7, 9),
      radius: between(4.5, 6.5),
    })),
  };
}
