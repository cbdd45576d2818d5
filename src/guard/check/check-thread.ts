/** A thread that checks records. */
import { serveThread } from '../../data/loading/serve-thread.js';
import { RecordChecker, type CheckSpec, type RecordsReport } from './record-checker.js';

serveThread<CheckSpec, RecordChecker>({
  open: (spec) => RecordChecker.open(spec),
  answer: (checker, { numbers }) => checker.check(numbers[0]!, numbers[1]!),
  buffersOf: (result) => {
    const { lengths, contents } = result as RecordsReport;
    return [lengths, contents].map(({ buffer }) => buffer as ArrayBuffer);
  },
});
