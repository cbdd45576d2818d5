/** Bundles the pages to dist/web/, which needs nothing from elsewhere. */
import { fileURLToPath } from 'node:url';

import { defineConfig } from 'vite';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: here('.'),
  build: {
    outDir: here('../dist/web'),
    emptyOutDir: true,
    // Whatever is imported lies beside the page, never in it: the server forbids scripts and pictures within.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: [here('dashboard.html'), here('chat.html')] },
  },
});
