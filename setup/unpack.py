"""Unpacks from wheels what libtorch needs, and nothing of Python's.

usage: unpack.py lean|cuda DESTINATION WHEEL...

Files keep their places (torch/lib, nvidia/cu13/lib): the libraries find each other by paths relative to themselves.
"""

import os
import re
import sys
import time
import zipfile

KEEP = {
    # libtorch_cpu.so of a CUDA build needs these two CUDA libraries, and only these, on a machine without a GPU.
    "lean": r"torch/lib/[^/]+|torch/include/.+|torch/version\.py|nvidia/cu13/lib/lib(cudart|cupti)\.so\.\d+",
    "cuda": r"torch/lib/[^/]+|torch/include/.+|torch/version\.py|nvidia/\w+/lib/[^/]+\.so[.\d]*|nvidia/\w+/include/.+",
}
# Licences stay beside what they cover.
ALWAYS = r"[^/]+\.dist-info/licenses/.+"
DROP = {
    "lean": r"torch/lib/lib(torch_cuda|torch_cuda_linalg|torch_nvshmem|c10_cuda|caffe2_nvrtc|torch_python|shm|torch_global_deps|torch)\.(so|dylib)",
    "cuda": r"torch/lib/lib(torch_python|shm)\.(so|dylib)",
}


def main():
    kind, destination, wheels = sys.argv[1], sys.argv[2], sys.argv[3:]
    keep, drop = re.compile(KEEP[kind] + "|" + ALWAYS), re.compile(DROP[kind])
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                name = member.filename
                if member.is_dir() or not keep.fullmatch(name) or drop.fullmatch(name):
                    continue
                path = archive.extract(member, destination)
                os.chmod(path, (member.external_attr >> 16) & 0o755 or 0o644)
                # The archive's times, so that the same wheel always unpacks to the same files.
                modified = time.mktime(member.date_time + (0, 0, -1))
                os.utime(path, (modified, modified))


try:
    main()
except (OSError, zipfile.BadZipFile) as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
