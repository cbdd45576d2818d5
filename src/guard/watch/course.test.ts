import { expect, test } from 'vitest';

import { Course } from './course.js';

type Update = Parameters<Course['add']>[0];

/** A course of updates with these losses, of pictures or of text alone. */
function courseOf(losses: readonly number[], pictures = (_: number): boolean => true): Course {
  const course = new Course(Math.log(400));
  losses.forEach((loss, i) => {
    const counts = { images: pictures(i) ? 4 : 0, tokens: 64, sequences: 4 };
    course.add({ update: i + 1, loss, gradientNorm: 1, skipped: false, counts } as Update);
  });
  return course;
}
const times = (count: number, loss: number): number[] => Array<number>(count).fill(loss);

test('a loss that stays far above where it began has left it, below that of knowing nothing too', () => {
  expect(courseOf([0.4, ...times(15, 2.5)]).left).toBeNull();
  expect(courseOf([0.4, ...times(16, 2.5)]).left).toEqual({ began: 0.4, now: 2.5 });
});

test.each<[string, Course]>([
  ['came back once', courseOf([0.4, ...times(12, 2.5), 0.5, ...times(12, 2.5)])],
  ['was as good as 0, and is little more', courseOf([0.001, ...times(30, 0.4)])],
  ['is half as much again', courseOf([2, ...times(30, 3)])],
  [
    'is of pictures after text alone, which was easier',
    courseOf([...times(10, 0.4), ...times(30, 2.5)], (i) => i >= 10),
  ],
])('a loss that %s has not', (_, course) => {
  expect(course.left).toBeNull();
});
