import { describe, expect, it } from 'vitest';

import { nodeFromEnvironment, placeFromEnvironment, type RankPlace } from './environment.js';

type Variables = Record<string, string>;

const TORCHRUN: Variables = {
  RANK: '5',
  WORLD_SIZE: '8',
  LOCAL_RANK: '1',
  LOCAL_WORLD_SIZE: '4',
  MASTER_ADDR: 'gpu1',
  MASTER_PORT: '4711',
};
const SLURM: Variables = {
  SLURM_PROCID: '5',
  SLURM_NTASKS: '8',
  SLURM_LOCALID: '1',
  SLURM_JOB_NODELIST: 'gpu[07-08]',
  SLURM_JOB_ID: '1234',
  SLURM_STEP_ID: '0',
};
const OPENMPI: Variables = {
  OMPI_COMM_WORLD_RANK: '5',
  OMPI_COMM_WORLD_SIZE: '8',
  OMPI_COMM_WORLD_LOCAL_RANK: '1',
  OMPI_COMM_WORLD_LOCAL_SIZE: '4',
  MASTER_ADDR: 'gpu1',
};
/** What the Kubernetes trainer sets in a pod. */
const POD: Variables = {
  PET_NNODES: '8',
  PET_NODE_RANK: '5',
  PET_NPROC_PER_NODE: '1',
  PET_MASTER_ADDR: 'job-node-0',
  PET_MASTER_PORT: '29400',
};
const without = (variables: Variables, ...names: string[]): Variables => {
  return Object.fromEntries(Object.entries(variables).filter(([name]) => !names.includes(name)));
};

describe('the place of a rank', () => {
  const places: [string, Variables, Partial<RankPlace>][] = [
    [
      'alone',
      {},
      { launcher: 'none', rank: 0, worldSize: 1, localRank: 0, address: '127.0.0.1', port: 0 },
    ],
    ['alone, with a meeting place only', { MASTER_ADDR: 'x', MASTER_PORT: '1' }, { worldSize: 1 }],
    [
      'torchrun',
      TORCHRUN,
      { launcher: 'torchrun', rank: 5, worldSize: 8, localRank: 1, address: 'gpu1', port: 4711 },
    ],
    [
      'torchrun within Slurm',
      { ...SLURM, SLURM_PROCID: '1', SLURM_NTASKS: '2', ...TORCHRUN },
      { launcher: 'torchrun', rank: 5 },
    ],
    ['empty variables, which are not set', { RANK: '', WORLD_SIZE: ' ' }, { launcher: 'none' }],
    [
      'Slurm',
      SLURM,
      { launcher: 'slurm', rank: 5, worldSize: 8, localRank: 1, address: 'gpu07', port: 23638 },
    ],
    [
      'Slurm, a step on some of the nodes',
      { ...SLURM, SLURM_STEP_NUM_TASKS: '6', SLURM_STEP_NODELIST: 'gpu08', SLURM_STEP_ID: '3' },
      { worldSize: 6, address: 'gpu08', port: 23641 },
    ],
    [
      'Slurm with a meeting place',
      { ...SLURM, MASTER_ADDR: 'x', MASTER_PORT: '1' },
      { address: 'x', port: 1 },
    ],
    [
      'the script of a Slurm job of one task',
      { SLURM_PROCID: '0', SLURM_NTASKS: '1' },
      { worldSize: 1 },
    ],
    ['Slurm, an interactive shell', { SLURM_JOB_ID: '7', SLURM_NTASKS: '8' }, { launcher: 'none' }],
    [
      'Open MPI',
      OPENMPI,
      { launcher: 'openmpi', rank: 5, worldSize: 8, localRank: 1, address: 'gpu1', port: 29500 },
    ],
    [
      'Open MPI on one machine',
      { ...without(OPENMPI, 'MASTER_ADDR'), OMPI_COMM_WORLD_LOCAL_SIZE: '8' },
      { address: '127.0.0.1', port: 29500 },
    ],
    [
      'a pod of the Kubernetes trainer',
      POD,
      {
        launcher: 'kubernetes',
        rank: 5,
        worldSize: 8,
        localRank: 0,
        address: 'job-node-0',
        port: 29400,
      },
    ],
    [
      'a pod with an endpoint',
      { ...without(POD, 'PET_MASTER_ADDR', 'PET_MASTER_PORT'), PET_RDZV_ENDPOINT: 'head:1234' },
      { address: 'head', port: 1234 },
    ],
    [
      'a pod of a PyTorchJob, whose operator sets both',
      { ...without(TORCHRUN, 'LOCAL_RANK', 'LOCAL_WORLD_SIZE'), PET_NPROC_PER_NODE: 'auto' },
      { launcher: 'torchrun', rank: 5, worldSize: 8, localRank: 0 },
    ],
  ];
  it.each(places)('is known with %s', (_name, variables, place) => {
    expect(placeFromEnvironment(variables)).toMatchObject(place);
  });

  it.each<[string, Variables]>([
    ['RANK (a whole number) is not set, but WORLD_SIZE=8', { WORLD_SIZE: '8' }],
    ['WORLD_SIZE (a whole number) is not set, but RANK=5', without(TORCHRUN, 'WORLD_SIZE')],
    [
      'MASTER_ADDR (the host of rank 0) is not set, but RANK=5 and WORLD_SIZE=8',
      without(TORCHRUN, 'MASTER_ADDR'),
    ],
    ["RANK='-1' is no whole number from 0", { ...TORCHRUN, RANK: '-1' }],
    ["WORLD_SIZE='8.5' is no whole number from 0", { ...TORCHRUN, WORLD_SIZE: '8.5' }],
    ["WORLD_SIZE='0' is no number of processes", { ...TORCHRUN, RANK: '0', WORLD_SIZE: '0' }],
    ["MASTER_PORT='65536' is no port from 1 to 65535", { ...TORCHRUN, MASTER_PORT: '65536' }],
    [
      'RANK=8 and WORLD_SIZE=8 contradict each other: ranks count from 0',
      { ...TORCHRUN, RANK: '8' },
    ],
    [
      'LOCAL_RANK=4 and LOCAL_WORLD_SIZE=4 contradict each other: local ranks count from 0',
      { ...TORCHRUN, LOCAL_RANK: '4' },
    ],
    [
      'LOCAL_RANK=3 and RANK=2 contradict each other: a local rank is at most the rank',
      { ...TORCHRUN, RANK: '2', LOCAL_RANK: '3' },
    ],
    [
      'SLURM_NTASKS (a whole number) is not set, but SLURM_PROCID=5',
      without(SLURM, 'SLURM_NTASKS'),
    ],
    [
      'SLURM_LOCALID (a whole number) is not set, but SLURM_PROCID=5',
      without(SLURM, 'SLURM_LOCALID'),
    ],
    [
      'WORLD_SIZE=4 and SLURM_NTASKS=8 contradict each other: they should be the same',
      { ...SLURM, WORLD_SIZE: '4' },
    ],
    ["SLURM_JOB_NODELIST='gpu[' is no list of hosts", { ...SLURM, SLURM_JOB_NODELIST: 'gpu[' }],
    [
      'SLURM_NTASKS=8, but this is the script of the Slurm job, not one of its tasks: SLURM_STEP_ID is not set',
      without(SLURM, 'SLURM_STEP_ID'),
    ],
    [
      'OMPI_COMM_WORLD_SIZE (a whole number) is not set, but OMPI_COMM_WORLD_RANK=5',
      without(OPENMPI, 'OMPI_COMM_WORLD_SIZE'),
    ],
    [
      'MASTER_ADDR (the host of rank 0) is not set, but OMPI_COMM_WORLD_RANK=5 and OMPI_COMM_WORLD_SIZE=8',
      without(OPENMPI, 'MASTER_ADDR'),
    ],
    ['PET_NODE_RANK (a whole number) is not set, but PET_NNODES=8', without(POD, 'PET_NODE_RANK')],
    [
      'PET_NPROC_PER_NODE=4: this pod is to run that many processes, but LOCAL_RANK is not set',
      { ...POD, PET_NPROC_PER_NODE: '4' },
    ],
  ])('is an error: %s', (message, variables) => {
    expect(() => placeFromEnvironment(variables)).toThrow(
      expect.objectContaining({ code: 'E_RANKS', exitCode: 3, message }) as Error,
    );
  });
});

describe('the place of a machine whose ranks are started by one process', () => {
  it.each<[string, Variables, unknown]>([
    ['alone', {}, undefined],
    ['a pod of one', { ...POD, PET_NNODES: '1', PET_NODE_RANK: '0' }, undefined],
    [
      'a pod of many, with its rank in two forms',
      { ...POD, PET_NPROC_PER_NODE: '4', RANK: '5', WORLD_SIZE: '32' },
      { index: 5, count: 8, address: 'job-node-0', port: 29400 },
    ],
    [
      'Slurm with one task on each node',
      { ...SLURM, SLURM_PROCID: '1', SLURM_NTASKS: '2', SLURM_LOCALID: '0' },
      { index: 1, count: 2, address: 'gpu07', port: 23638 },
    ],
  ])('is known: %s', (_name, variables, place) => {
    expect(nodeFromEnvironment(variables)).toEqual(place);
  });

  it.each<[string, Variables]>([
    ['RANK=5 and WORLD_SIZE=8 contradict each other: this process is a rank itself', TORCHRUN],
    [
      'SLURM_PROCID=5 and SLURM_NTASKS=8 contradict each other: this process is a rank itself',
      SLURM,
    ],
    [
      'MASTER_ADDR (the host of rank 0) is not set, but PET_NODE_RANK=5 and PET_NNODES=8',
      without(POD, 'PET_MASTER_ADDR'),
    ],
  ])('is an error: %s', (message, variables) => {
    expect(() => nodeFromEnvironment(variables)).toThrow(
      expect.objectContaining({ code: 'E_RANKS', message }) as Error,
    );
  });
});
