/** What is said about a scene: descriptions, and questions with one right answer each. */
import { PLACES, type Scene } from './draw.js';

export interface QuestionAnswer {
  readonly question: string;
  readonly answer: string;
}

const NUMBERS = ['one', 'two', 'three'] as const;

/**
 * Captions: of the whole, and of one property at a time.
 *
 * The shape comes before the colour: a model that names the colour first takes it for a hint at the shape, and fails where it
 * meets the two together for the first time.
 */
export function captions({ shape, colour, marks }: Scene): QuestionAnswer[] {
  const number = NUMBERS[marks.length - 1]!;
  const places = marks.map(({ place }) => PLACES[place]!).join(', ');
  const all = `${number} ${plural(shape, marks.length)} in ${colour}: ${places}`;
  return [
    { question: 'Describe the picture.', answer: all },
    { question: 'Describe the shape.', answer: shape },
    { question: 'Describe the colour.', answer: colour },
    { question: 'Describe the number.', answer: number },
    { question: 'Describe the places.', answer: places },
  ];
}

/** What is asked, in words that no caption has. */
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
