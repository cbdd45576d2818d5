/** The room of servers: models by the protocol of OpenAI's chat completions. */

export { serve, type ServeOptions, type Serving } from './serve.js';
export { exposure } from './listen.js';
