"""The peer of bench/load.ts: transformers' from_pretrained to the GPU and one forward pass. Also empties the page cache of a folder.

    python load_peer.py load DIR     one LOAD line as bench/load.ts prints it; DEVICE: where (default cuda:0)
    python load_peer.py drop DIR     writes back and drops the folder's files from the page cache; says what stayed

Needs torch and transformers 5 for `load`, nothing for `drop`.
"""
import ctypes, mmap, os, re, sys, threading, time


def status(*fields):
    text = open("/proc/self/status").read()
    return sum(int(m[1]) for m in (re.search(rf"{f}:\s+(\d+)", text) for f in fields) if m)


def load(folder):
    import torch
    from transformers import LlavaForConditionalGeneration
    device = os.environ.get("DEVICE", "cuda:0")
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    peak, done = [0], threading.Event()
    def watch():
        while not done.wait(0.005): peak[0] = max(peak[0], status("RssAnon", "RssShmem"))
    thread = threading.Thread(target=watch); thread.start()
    t = time.perf_counter()
    m = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16, device_map={"": device}); wait()
    loaded = time.perf_counter() - t
    c = m.config; n, side, patches = 64, c.vision_config.image_size, c.image_seq_length
    ids = (torch.arange(n + patches, device=device) * 997 % 128000)[None]; ids[:, 5:5 + patches] = c.image_token_id
    with torch.no_grad():
        logits = m(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=torch.randn(1, 3, side, side, device=device, dtype=torch.bfloat16)).logits
        largest = logits.amax().item()
    forward = time.perf_counter() - t
    assert largest == largest
    done.set(); thread.join()
    whole = time.time() - float(os.environ.get("START", "nan"))
    print("LOAD transformers " + " ".join(f"{x:.2f}" for x in (loaded, forward, whole, peak[0] / 2**20, status("VmHWM") / 2**20)), flush=True)


def drop(folder):
    os.sync()
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    stays = pages = 0
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            size = os.fstat(file.fileno()).st_size
            count = -(-size // mmap.PAGESIZE)
            if count == 0: continue
            with mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view:
                here = (ctypes.c_char * 1).from_buffer(view)
                seen = (ctypes.c_ubyte * count)()
                if mincore(ctypes.c_void_p(ctypes.addressof(here)), ctypes.c_size_t(size), seen) == 0: stays += sum(b & 1 for b in bytes(seen))
                del here
            pages += count
    print(f"DROP {100 * stays / max(1, pages):.0f} % of the pages stayed in memory", flush=True)


if __name__ == "__main__": {"load": load, "drop": drop}[sys.argv[1]](sys.argv[2])
