/** A thread of the pool: opens a loader from what it is given, then loads what it is asked for. */
import { RecordLoader, type LoaderSpec, type LoadOutcome } from './record-loader.js';
import { serveThread } from './serve-thread.js';

serveThread<LoaderSpec, RecordLoader>({
  open: (spec) => RecordLoader.open(spec),
  answer: (loader, { method, numbers }) => {
    const [from, to] = numbers as [number, number];
    if (method === 'load') return loader.load(from);
    return method === 'count' ? loader.count(from, to) : loader.measure(from, to);
  },
  buffersOf: (result) => {
    if (result instanceof Int32Array) return [result.buffer as ArrayBuffer];
    const outcome = result as LoadOutcome;
    if (outcome.status === 'rejected') return [];
    const { inputIds, labels, images } = outcome.sample;
    const pixels = images.map((image) => ('views' in image ? image.views : image));
    return [inputIds, labels, ...pixels].map(({ buffer }) => buffer as ArrayBuffer);
  },
});
