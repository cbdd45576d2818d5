/**
 * What the set-up downloads for a private libtorch, per platform: wheels pinned by version, size and SHA-256.
 *
 * A new version of libtorch is a new set of rows here (sizes and hashes of the wheels that `pip download` brings), and a
 * new {@link TORCH}.
 */

/** The version that is downloaded and tested. */
export const TORCH = '2.11.0';

/** Names of its builds, as `torch.__version__` has them. */
export const CUDA_BUILD = `${TORCH}+cu130`;

/** The build of the same version for graphics drivers and cards that are too old for {@link CUDA_BUILD}. */
export const OLDER_CUDA_BUILD = `${TORCH}+cu126`;

/**
 * @typedef {object} Wheel
 * @property {string} name
 * @property {string} version
 * @property {number} bytes
 * @property {string} sha256
 */

/**
 * @typedef {object} Download
 * @property {Wheel[]} wheels
 * @property {number} unpacked Bytes on disk of what is unpacked from them.
 * @property {string[]} tags Platform tags for pip. It takes a wheel only for the very tag in the wheel's name.
 * @property {boolean} tested False where nobody has run it yet.
 */

/** @typedef {'lean' | 'cuda'} Kind Without the CUDA libraries, or complete. */

/**
 * The complete sets are the NVIDIA packages that the torch wheel names, and the headers of `nvidia-cuda-crt`, which the
 * addon's CUDA part is compiled with.
 *
 * @param {string} text One wheel a line: name, version, bytes, SHA-256.
 */
function table(text) {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [name = '', version = '', bytes = '', sha256 = ''] = line.trim().split(/\s+/);
      return { name, version, bytes: Number(bytes), sha256 };
    });
}

const LINUX_X64 = table(`
  torch                  2.11.0     530712279 0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756
  nvidia-cuda-runtime    13.0.96      2243632 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
  nvidia-cuda-cupti      13.0.85     10715597 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
`);

const LINUX_X64_CUDA = table(`
  nvidia-cublas          13.1.0.3   423133236 ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171
  nvidia-cuda-crt        13.0.88       134086 2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
  nvidia-cuda-nvrtc      13.0.88     90215200 ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
  nvidia-cudnn-cu13      9.19.0.56  366066321 d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf
  nvidia-cufft           12.0.0.61  214085489 6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3
  nvidia-cufile          1.15.1.6     1223672 08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44
  nvidia-curand          10.4.0.35   59544258 1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc
  nvidia-cusolver        12.0.4.66  200941980 0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112
  nvidia-cusparse        12.6.3.3   145942937 2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b
  nvidia-cusparselt-cu13 0.8.0      169884119 25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd
  nvidia-nccl-cu13       2.28.9     196493177 e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42
  nvidia-nvjitlink       13.0.88     40713933 13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b
  nvidia-nvshmem-cu13    3.4.5       60412546 290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80
  nvidia-nvtx            13.0.85       148047 4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4
`);

const LINUX_ARM64 = table(`
  torch                  2.11.0     419731115 f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f
  nvidia-cuda-runtime    13.0.96      2261060 ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55
  nvidia-cuda-cupti      13.0.85     10310827 796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151
`);

const LINUX_ARM64_CUDA = table(`
  nvidia-cublas          13.1.0.3   542851226 c86fc7f7ae36d7528288c5d88098edcb7b02c633d262e7ddbb86b0ad91be5df2
  nvidia-cuda-crt        13.0.88       134086 ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003
  nvidia-cuda-nvrtc      13.0.88     43015449 d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b
  nvidia-cudnn-cu13      9.19.0.56  433781201 6ed29ffaee1176c612daf442e4dd6cfeb6a0caa43ddcbeb59da94953030b1be4
  nvidia-cufft           12.0.0.61  214053554 2708c852ef8cd89d1d2068bdbece0aa188813a0c934db3779b9b1faa8442e5f5
  nvidia-cufile          1.15.1.6     1136992 bdc0deedc61f548bddf7733bdc216456c2fdb101d020e1ab4b88d232d5e2f6d1
  nvidia-curand          10.4.0.35   61962106 133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a
  nvidia-cusolver        12.0.4.66  223467760 02c2457eaa9e39de20f880f4bd8820e6a1cfb9f9a34f820eb12a155aa5bc92d2
  nvidia-cusparse        12.6.3.3   162155568 80bcc4662f23f1054ee334a15c72b8940402975e0eab63178fc7e670aa59472c
  nvidia-cusparselt-cu13 0.8.0      220791277 400c6ed1cf6780fc6efedd64ec9f1345871767e6a1a0a552a1ea0578117ea77c
  nvidia-nccl-cu13       2.28.9     196561677 01c873ba1626b54caa12272ed228dc5b2781545e0ae8ba3f432a8ef1c6d78643
  nvidia-nvjitlink       13.0.88     38768748 e931536ccc7d467a98ba1d8b89ff7fa7f1fa3b13f2b0069118cd7f47bff07d0c
  nvidia-nvshmem-cu13    3.4.5       60215947 6dc2a197f38e5d0376ad52cd1a2a3617d3cdc150fd5966f4aee9bcebb1d68fe9
  nvidia-nvtx            13.0.85       148878 cb7780edb6b14107373c835bf8b72e7a178bac7367e23da7acb108f973f157a6
`);

const MACOS_ARM64 = table(`
  torch                  2.11.0      80606338 4b5866312ee6e52ea625cd211dcb97d6a2cdc1131a5f15cc0d87eec948f6dd34
`);

/** @param {string} architecture */
function linuxTags(architecture) {
  const glibc = Array.from({ length: 24 }, (_, index) => `manylinux_2_${28 - index}`);
  return [...glibc, 'manylinux2014', 'manylinux2010', 'manylinux1'].map(
    (tag) => `${tag}_${architecture}`,
  );
}

/** @type {Record<string, Partial<Record<Kind, Download>>>} By `process.platform` and `process.arch`. */
export const DOWNLOADS = {
  'linux-x64': {
    lean: { wheels: LINUX_X64, unpacked: 525e6, tags: linuxTags('x86_64'), tested: true },
    cuda: {
      wheels: [...LINUX_X64, ...LINUX_X64_CUDA],
      unpacked: 3835e6,
      tags: linuxTags('x86_64'),
      tested: true,
    },
  },
  'linux-arm64': {
    lean: { wheels: LINUX_ARM64, unpacked: 365e6, tags: linuxTags('aarch64'), tested: false },
    cuda: {
      wheels: [...LINUX_ARM64, ...LINUX_ARM64_CUDA],
      unpacked: 3675e6,
      tags: linuxTags('aarch64'),
      tested: false,
    },
  },
  'darwin-arm64': {
    lean: { wheels: MACOS_ARM64, unpacked: 285e6, tags: ['macosx_11_0_arm64'], tested: false },
  },
};
