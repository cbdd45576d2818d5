/** Runs one pickle from a stream of bytes. */
import { DataError } from '../../base/errors.js';
import { Machine, type MachineOptions } from './machine.js';
import { OPERATIONS } from './opcodes.js';
import { StreamFault, type ByteStream } from './stream.js';
import type { PickleValue } from './values.js';

const STOP = 0x2e;

/**
 * Reads the pickle at the stream's position and leaves the stream behind its end.
 *
 * @throws DataError E_PICKLE_GLOBAL, E_PICKLE_CALL and E_PICKLE_VALUE for whatever is more than plain data, E_PICKLE_STREAM
 *   for a malformed stream, E_PICKLE_TENSOR and E_PICKLE_NUMPY for tensors and arrays that lie, E_PICKLE_LIMIT for bombs.
 */
export function unpickle(stream: ByteStream, options: MachineOptions): PickleValue {
  const machine = new Machine(stream, options);
  let position = stream.position;
  try {
    for (;;) {
      ({ position } = stream);
      const opcode = stream.u8();
      if (opcode === STOP) return machine.finish();
      const operation = OPERATIONS.get(opcode) ?? unknown(opcode);
      operation(machine);
    }
  } catch (error) {
    if (!(error instanceof StreamFault)) throw error;
    throw new DataError(
      `${options.where} is no sound pickle: ${error.message} (at byte ${position}).`,
      {
        code: 'E_PICKLE_STREAM',
        hint: 'Download or copy the file again; if that does not help, save its weights as safetensors.',
        cause: error,
      },
    );
  }
}

function unknown(opcode: number): never {
  const name = `0x${opcode.toString(16).padStart(2, '0')}`;
  throw new StreamFault(`opcode ${name} is unknown or not permitted`);
}
