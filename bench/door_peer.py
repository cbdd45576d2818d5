"""The Python side of `npm run bench:door`: times the calls that a line of standard input asks for.

Prints the version of torch, then answers each line "device case calls" with the microseconds per call. Ends with status 3 where
Python has no torch.
"""

import sys
import time

try:
    import torch
except ImportError:
    sys.exit(3)

torch.set_num_threads(int(sys.argv[1]))


def cases(device):
    x, y = torch.ones(4, device=device), torch.ones(4, device=device)
    a, w = torch.ones(4, 64, device=device), torch.ones(64, 64, device=device)
    linear = torch.nn.functional.linear

    def add(calls):
        for _ in range(calls):
            x.add(y)

    def products(calls):
        for _ in range(calls):
            linear(a, w)

    def read_back(calls):
        for _ in range(calls):
            x.tolist()

    return {"add": add, "linear": products, "read_back": read_back}


known = {}
print(torch.__version__, flush=True)
for line in sys.stdin:
    device, name, calls = line.split()
    if device not in known:
        known[device] = cases(device)
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    synchronize()
    start = time.perf_counter()
    known[device][name](int(calls))
    synchronize()
    print((time.perf_counter() - start) / int(calls) * 1e6, flush=True)
