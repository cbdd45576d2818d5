/** The pages that `web/` is bundled to at set-up, as they are served. */
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';

import type { Context, Hono } from 'hono';

import { EnvironmentError } from '../base/errors.js';
import { packageRoot } from '../base/native-path.js';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Nothing from elsewhere runs in a page, and no other page holds it in a frame. */
const POLICY =
  "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** Adds a page at `/`, and what it loads. */
export function addPage(app: Hono, page: 'dashboard' | 'chat'): void {
  const folder = join(packageRoot(), 'dist', 'web');
  app.get('/', async (context) => {
    const path = join(folder, `${page}.html`);
    const bytes = await readFile(path).catch((cause: unknown) => {
      throw new EnvironmentError(`The page ${path} has not been built.`, {
        code: 'E_NOT_SET_UP',
        hint: 'Run `npm run setup`.',
        cause,
      });
    });
    return answer(context, '.html', bytes, 'no-store');
  });
  app.get('/assets/:name{[\\w-]+\\.(js|css|svg)}', async (context) => {
    const name = context.req.param('name');
    const bytes = await readFile(join(folder, 'assets', name)).catch(() => undefined);
    if (bytes === undefined) return context.notFound();
    // Names of assets hold a hash of what is in them.
    return answer(context, extname(name), bytes, 'private, max-age=31536000, immutable');
  });
}

function answer(context: Context, type: string, bytes: Buffer, cache: string): Response {
  return context.body(new Uint8Array(bytes), 200, {
    'content-type': TYPES[type]!,
    'content-security-policy': POLICY,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': cache,
  });
}
