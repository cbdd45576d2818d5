/** Files of records that are read from in any order: each is opened with its first record, and stays open until all are closed. */
import { openTable, type NumberedFile } from './open-table.js';
import type { RecordTable } from './record-table.js';

export class OpenTables {
  readonly #tables = new Map<NumberedFile, Promise<RecordTable>>();

  /** @throws DataError E_DATA_READ, E_DATA_CHANGED */
  of(file: NumberedFile): Promise<RecordTable> {
    let table = this.#tables.get(file);
    if (!table) {
      table = openTable(file.table);
      this.#tables.set(file, table);
    }
    return table;
  }

  async close(): Promise<void> {
    const tables = [...this.#tables.values()];
    this.#tables.clear();
    await Promise.all(tables.map((table) => table.then((open) => open.close()).catch(() => {})));
  }
}
