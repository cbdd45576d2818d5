/** A record of the data by its place, with its text and pictures once it is opened. */
import { useEffect, useState } from 'preact/hooks';

import { fetchRecord, type RecordView, type ShownPlace } from './api.js';

export function DataRecord({
  run,
  source,
  line,
  record,
  id,
  open: atFirst = false,
}: ShownPlace & { run: string; open?: boolean }) {
  const [open, setOpen] = useState(atFirst);
  const [shown, setShown] = useState<RecordView>();
  useEffect(() => {
    if (!open) return;
    let ended = false;
    fetchRecord(run, source, record).then(
      (found) => !ended && setShown(found),
      (error: unknown) =>
        !ended && setShown({ text: error instanceof Error ? error.message : '', pictures: [] }),
    );
    return () => {
      ended = true;
    };
  }, [open, run, source, record]);
  // In an array of JSON all records may stand on one line.
  const number = line === record ? '' : ` (record ${record})`;
  return (
    <details
      class="record"
      open={open}
      onToggle={({ currentTarget }) => setOpen(currentTarget.open)}
    >
      <summary>
        <code>
          {source}
          {line !== null && `:${line}`}
          {number}
        </code>
        {id !== null && ` id ${id}`}
      </summary>
      {shown === undefined ? (
        <p class="quiet">Reading …</p>
      ) : (
        <div class="content">
          {shown.pictures.map((address, i) => (
            <img key={i} src={address} alt={`picture ${i + 1} of record ${record}`} />
          ))}
          <pre tabIndex={0}>{shown.text}</pre>
        </div>
      )}
    </details>
  );
}
