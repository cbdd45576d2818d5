/** The Pythons on the PATH: the active one's torch, and one whose pip can download. */
import { SetupError } from './errors.js';
import { findAll, installCommand, run } from './tools.js';

const FIND_TORCH = `
import importlib.util
spec = importlib.util.find_spec("torch")
print((spec.submodule_search_locations or [""])[0] if spec else "")
`;

/**
 * The folder of the active Python's torch, which is looked up, not imported; undefined without Python or torch.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<string | undefined>}
 */
export async function torchOfActivePython(env) {
  const python = findAll(['python3', 'python'], env)[0];
  if (python === undefined) return undefined;
  const { status, stdout } = await run(python, ['-c', FIND_TORCH], { env });
  const folder = stdout.trim();
  return status === 0 && folder !== '' ? folder : undefined;
}

/**
 * The first Python 3 on the PATH that has pip; its own version does not matter.
 *
 * @param {NodeJS.ProcessEnv} env
 */
export async function findPip(env) {
  let python;
  for (const candidate of findAll(['python3', 'python'], env)) {
    const version = await run(candidate, ['--version'], { env });
    if (version.status !== 0 || !version.stdout.startsWith('Python 3')) continue;
    python ??= candidate;
    const pip = await run(candidate, ['-m', 'pip', '--version'], { env });
    if (pip.status === 0) return candidate;
  }
  const otherwise = 'then run "npm run setup"; or set PATINA_LIBTORCH to a libtorch that you have.';
  const command = installCommand({
    debian: 'sudo apt-get install python3-pip',
    macos: 'brew install python',
  });
  if (python === undefined) {
    throw new SetupError('There is no Python 3 on the PATH; libtorch is downloaded with its pip.', {
      code: 'E_NO_PYTHON',
      hint: `Install Python 3 with pip (${command}), ${otherwise}`,
      command,
    });
  }
  throw new SetupError(`The Python at ${python} has no pip; libtorch is downloaded with it.`, {
    code: 'E_NO_PIP',
    hint: `Install pip (${command}, or ${python} -m ensurepip), ${otherwise}`,
    command,
  });
}
