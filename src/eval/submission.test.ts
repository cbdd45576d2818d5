import { expect, test } from 'vitest';

import { memorySource } from '../formats/source.js';
import { ZipArchive } from '../formats/zip.js';
import { sheet } from './submission.js';

test('a sheet is an archive of XML, with a cell for each value', async () => {
  const bytes = sheet([
    ['index', 'prediction'],
    [1_000_003, 'A < B & "C"\u0000\ud800\n是'],
  ]);
  const zip = await ZipArchive.open(memorySource('x.xlsx', bytes));
  expect([...zip.entries.keys()]).toEqual([
    '[Content_Types].xml',
    '_rels/.rels',
    'xl/workbook.xml',
    'xl/_rels/workbook.xml.rels',
    'xl/sheet.xml',
  ]);
  const xml = await zip.read(zip.entries.get('xl/sheet.xml')!, 1e6);
  const text = (value: string): string =>
    `<c t="inlineStr"><is><t xml:space="preserve">${value}</t></is></c>`;
  expect(Buffer.from(xml).toString()).toContain(
    `<sheetData><row>${text('index')}${text('prediction')}</row>` +
      `<row><c><v>1000003</v></c>${text('A &lt; B &amp; &quot;C&quot;\n是')}</row></sheetData>`,
  );
});
