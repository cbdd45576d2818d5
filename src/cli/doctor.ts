/** `patina doctor`: what Patina runs on, and for each fault the command that mends it. */
import { formatBytes } from '../base/format.js';
import { jsonText } from '../base/json-text.js';
import { examine, LINK_NAMES, type Fault, type Health, type Origin } from './health.js';
import type { Session } from './session.js';

export interface DoctorFlags {
  json?: boolean;
  links?: boolean;
}

export async function doctorCommand(
  { json = false, links = false }: DoctorFlags,
  session: Session,
): Promise<void> {
  const health = await examine({ links });
  session.stdout.write(json ? jsonText(health) : describeHealth(health));
  if (!health.ok) session.exitCode = 3;
}

/** The report as text: a line for each fact, then the faults. */
export function describeHealth(health: Health): string {
  const { node, libtorch, addon, gpus, driver, processGroups, links, memory, disk, faults } =
    health;
  const facts: [string, string][] = [
    ['Node', `${node.version} (${node.platform})`],
    ['libtorch', libtorch === null ? 'none' : describeLibtorch(libtorch)],
    [
      'addon',
      addon === null ? 'none' : `${addon.folder} (${addon.loads ? 'loads' : 'does not load'})`,
    ],
    ...(gpus.length === 0
      ? [['GPU', 'none'] satisfies [string, string]]
      : gpus.map((gpu, index): [string, string] => [`GPU ${index}`, describeGpu(gpu)])),
    ['driver', driver === null ? 'none' : describeDriver(driver)],
    ['processes', processGroups === null ? 'not known' : describeProcessGroups(processGroups)],
    ...(links === null ? [] : [['links', describeLinks(links)] satisfies [string, string]]),
    ['memory', `${formatBytes(memory.freeBytes)} free of ${formatBytes(memory.totalBytes)}`],
    ['disk', `${formatBytes(disk.freeBytes)} free at ${disk.folder}`],
  ];
  const lines = facts.map(([name, value]) => `${name.padEnd(10)}${value}\n`);
  return `${lines.join('')}\n${faults.length === 0 ? 'No faults.\n' : faults.map(describeFault).join('\n')}`;
}

function describeLibtorch(libtorch: NonNullable<Health['libtorch']>): string {
  const { version, folder, from, cpuCapability, threads } = libtorch;
  const running = cpuCapability === null ? '' : `, ${cpuCapability}, ${threads ?? '?'} threads`;
  return `${version}${running}, from ${ORIGIN[from]} (${folder})`;
}

const ORIGIN: Record<Origin, string> = {
  PATINA_LIBTORCH: 'PATINA_LIBTORCH',
  python: 'the Python that was active at the set-up',
  private: "the project's own copy",
};

function describeGpu({ name, capability, totalBytes, freeBytes }: Health['gpus'][number]): string {
  const memory =
    totalBytes === null || freeBytes === null
      ? 'not reached by libtorch'
      : `${formatBytes(freeBytes)} free of ${formatBytes(totalBytes)}`;
  return `${name}, compute capability ${capability}, ${memory}`;
}

function describeDriver(driver: NonNullable<Health['driver']>): string {
  const { version, supports, builtFor } = driver;
  const runs = supports === null ? '' : `, runs CUDA up to ${supports}`;
  return `${version}${runs}; libtorch is ${builtFor === null ? 'not using CUDA' : `built for CUDA ${builtFor}`}`;
}

function describeProcessGroups({ gloo, nccl }: NonNullable<Health['processGroups']>): string {
  const cpus = gloo === null ? 'Gloo works' : `Gloo does not work (${gloo})`;
  return `${cpus}; ${nccl === null ? 'NCCL is there for several GPUs' : `no several GPUs: ${nccl}`}`;
}

function describeLinks(links: NonNullable<Health['links']>): string {
  const { backend, ranks, allGather, reduceScatter, allReduce } = links;
  const speeds = Object.entries({
    'all-gather': allGather,
    'reduce-scatter': reduceScatter,
    'all-reduce': allReduce,
  }).map(([name, speed]) => `${name} ${(speed / 1e9).toPrecision(3)} GB/s`);
  const what = backend === 'nccl' ? 'GPUs' : 'processes on the CPU';
  return `${ranks} ${what} over ${LINK_NAMES[backend]}: ${speeds.join(', ')}`;
}

function describeFault({ severity, message, code, hint, command }: Fault): string {
  const indented = message.replaceAll('\n', '\n  ');
  return `${severity}: ${indented} [${code}]\n  ${hint}\n  > ${command}\n`;
}
