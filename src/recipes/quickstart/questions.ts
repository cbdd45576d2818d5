/** What is said about a scene: a caption, and questions with one right answer each. */
import { PLACES, type Scene } from './draw.js';

export interface QuestionAnswer {
  readonly question: string;
  readonly answer: string;
}

const NUMBERS = ['one', 'two', 'three'] as const;

/**
 * What is to be said about a scene: everything, the shapes without their colour, or the colour alone.
 *
 * The shape comes before the colour: a model that names the colour first takes it for a hint at the shape, and fails where it
 * meets the two together for the first time.
 */
export function captions({ shape, colour, marks }: Scene): QuestionAnswer[] {
  const shapes = `${NUMBERS[marks.length - 1]!} ${plural(shape, marks.length)}`;
  const places = marks.map(({ place }) => PLACES[place]!).join(', ');
  return [
    { question: 'Describe the picture.', answer: `${shapes} in ${colour}: ${places}` },
    { question: 'Describe the shapes.', answer: `${shapes}: ${places}` },
    { question: 'Describe the colour.', answer: colour },
  ];
}

export function questions({ shape, colour, marks }: Scene): QuestionAnswer[] {
  return [
    { question: 'What shape is shown?', answer: shape },
    { question: 'What colour is it?', answer: colour },
    { question: 'How many shapes are there?', answer: NUMBERS[marks.length - 1]! },
    ...(marks.length === 1
      ? [{ question: 'Where is the shape?', answer: PLACES[marks[0]!.place]! }]
      : []),
  ];
}

function plural(shape: string, count: number): string {
  if (count === 1) return shape;
  return shape === 'cross' ? 'crosses' : `${shape}s`;
}
