/** The body of a request, not kept beyond a limit. */
import { formatBytes } from '../base/format.js';
import { ApiError } from './api-error.js';

/** What is over the limit is read on, up to so many times the limit, since few clients read an answer before they have sent all. */
const PATIENCE = 8;

/** @throws ApiError 413 */
export async function readBody(request: Request, limit: number): Promise<string> {
  const announced = Number(request.headers.get('content-length') ?? 0);
  if (announced > PATIENCE * limit) throw tooLarge(limit);
  if (request.body === null) return '';
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes <= limit) chunks.push(chunk);
    else chunks.length = 0;
    if (bytes > PATIENCE * limit) break;
  }
  if (bytes > limit) throw tooLarge(limit);
  return Buffer.concat(chunks).toString('utf8');
}

function tooLarge(limit: number): ApiError {
  return new ApiError(`The body is larger than ${formatBytes(limit)}.`, {
    ...{ status: 413, code: 'request_too_large' },
    hint: 'Send smaller pictures, or fewer.',
  });
}
