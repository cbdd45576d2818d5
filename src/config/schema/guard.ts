/** What a run does about updates that go wrong. */
import { z } from 'zod';

import { count, countOrZero, text } from './fields.js';

const quarantined = z
  .strictObject({
    source: text.describe('The file.'),
    line: count.describe('The line on which it begins; in files without lines its number, from 1.'),
    record: count
      .optional()
      .describe(
        'Its number in the file, from 1: for files with several records on one line. All that begin on the line if left out.',
      ),
  })
  .meta({ id: 'Quarantined' });

export const guardSection = z
  .strictObject({
    onBadUpdate: z
      .enum(['stop', 'leave-out', 'quarantine', 'roll-back'])
      .default('quarantine')
      .describe(
        'How far a run goes to get past an update whose gradient is not finite: it stops with a report; or the update is left out; ' +
          'or the one record that spoils it is left out from then on and the rest of the update trained on; or, where no record is at ' +
          'fault, weights and optimizer go back to the last snapshot and the data go on behind the update. Each does what those before it do first.',
      ),
    budget: countOrZero
      .default(20)
      .describe(
        'Bad updates, over the whole run, that are answered so; the next one stops the run.',
      ),
    snapshotEvery: count
      .optional()
      .describe(
        'Updates between two snapshots of weights and optimizer in host memory, to roll back to. The newest checkpoint if left out.',
      ),
    quarantine: z
      .array(quarantined)
      .default([])
      .describe('Records that are left out of their updates from the beginning.'),
  })
  .meta({ id: 'Guard' });
