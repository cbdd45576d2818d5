/** The parts of a step that its time is given to. */

/** `other` is the batch, what is made of it for all segments, and what is between updates. */
export const STEP_PARTS = ['tower', 'projector', 'decoder', 'head', 'optimizer', 'other'] as const;

export type StepPart = (typeof STEP_PARTS)[number];
