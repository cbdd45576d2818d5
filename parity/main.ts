/** `npm run parity -- KIND PATH [options]`; see dispatch.ts. */
import { dispatch } from './dispatch.js';

process.exitCode = await dispatch(process.argv.slice(2));
