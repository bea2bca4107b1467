"""What maps of Linux take on this machine, beside `cargo bench -p duckbpf-benches --bench maps`: `sudo python3 benches/linux.py`.

Maps of 4,096 entries, all taken, keys in an order that no processor foresees, as there. A program makes a thousand keys and looks
each up (or updates it); the kernel runs it (BPF_PROG_TEST_RUN) and says how long a run took. Nanoseconds a key, the keys' making
included: the median and the extremes of eleven rounds.
"""

import ctypes
import platform
import statistics
import struct

ENTRIES = 4096
KEYS = 1000  # of one run; the kernel's verifier walks every round
RUNS = 200
ROUNDS = 11

SYS_BPF = {"x86_64": 321, "aarch64": 280}
MAP_CREATE, MAP_UPDATE, PROG_LOAD, PROG_TEST_RUN = 0, 2, 5, 10
HASH, ARRAY, LRU_HASH = 1, 2, 9
SCHED_CLS = 3
LOOKUP, UPDATE = 1, 2  # helpers

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """The call's result, and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes.ljust(144, b"\0"), 144)
    result = libc.syscall(SYS_BPF[platform.machine()], command, buffer, 144)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf(2)")
    return result, buffer.raw


def address(data: ctypes.Array) -> int:
    return ctypes.addressof(data)


def make_map(kind: int, key_size: int) -> int:
    """A map whose entries are all taken."""
    made, _ = bpf(MAP_CREATE, struct.pack("IIIII", kind, key_size, 8, ENTRIES, 0))
    value = ctypes.create_string_buffer(8)
    for number in range(ENTRIES):
        key = ctypes.create_string_buffer(number.to_bytes(key_size, "little"), key_size)
        bpf(MAP_UPDATE, struct.pack("I4xQQQ", made, address(key), address(value), 0))
    return made


def program(made: int | None, key_size: int, helper: int | None) -> bytes:
    """Xorshift in r6, rounds in r7; the key lies at r10-8 or below, a value at r10-32."""

    def op(code: int, to: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
        return struct.pack("<BBhi", code, to | source << 4, offset, number)

    store = {4: 0x63, 8: 0x7B, 16: 0x7B}[key_size]
    place = -16 if key_size == 16 else -8
    body = b"".join(
        op(0xBF, 1, 6) + op(code, 1, number=by) + op(0xAF, 6, 1) for code, by in ((0x67, 13), (0x77, 7), (0x67, 17))
    )
    body += op(0xBF, 1, 6) + op(0x57, 1, number=ENTRIES - 1) + op(store, 10, 1, place)
    if made is not None:
        load_map = op(0x18, 1, 1, number=made) + op(0)
        body += load_map + op(0xBF, 2, 10) + op(0x07, 2, number=place)
        if helper == UPDATE:
            body += op(0xBF, 3, 10) + op(0x07, 3, number=-32) + op(0xB7, 4)
        body += op(0x85, number=helper)
        if helper == LOOKUP:
            # A key that is missing would end the run, which the result tells.
            body += op(0x55, 0, offset=2) + op(0xB7, 0, number=1) + op(0x95) + op(0x79, 1, 0)
    body += op(0x07, 7, number=-1)
    head = op(0x18, 6, number=0x2545F491) + op(0, number=0x4F6CDD1D) + op(0xB7, 7, number=KEYS)
    head += b"".join(op(0x7A, 10, offset=offset) for offset in (-8, -16, -32))
    back = -(len(body) // 8) - 1
    return head + body + op(0x55, 7, offset=back) + op(0xB7, 0) + op(0x95)


def load(code: bytes) -> int:
    text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    return bpf(PROG_LOAD, struct.pack("IIQQ", SCHED_CLS, len(code) // 8, address(text), address(licence)))[0]


def measure(loaded: int) -> list[float]:
    """Nanoseconds a key, by round."""
    data = ctypes.create_string_buffer(64)
    times = []
    for _ in range(ROUNDS):
        _, after = bpf(PROG_TEST_RUN, struct.pack("IIIIQQII", loaded, 0, 64, 0, address(data), 0, RUNS, 0))
        result, duration = struct.unpack_from("I", after, 4)[0], struct.unpack_from("I", after, 36)[0]
        assert result == 0, "a key was not found"
        times.append(duration / KEYS)
    return times


def main() -> None:
    rows = [("the keys alone", None, 8, None), ("array lookup", ARRAY, 4, LOOKUP)]
    rows += [(f"hash lookup, keys of {size} bytes", HASH, size, LOOKUP) for size in (4, 8, 16)]
    rows += [("hash update, keys of 8 bytes", HASH, 8, UPDATE)]
    rows += [
        ("lru_hash lookup, keys of 8 bytes", LRU_HASH, 8, LOOKUP),
        ("lru_hash update, keys of 8 bytes", LRU_HASH, 8, UPDATE),
    ]
    print(f"Linux {platform.release()}")
    for name, kind, size, helper in rows:
        times = measure(load(program(kind and make_map(kind, size), size, helper)))
        print(f"{name:<36}{statistics.median(times):>7.2f} ns  [{min(times):.2f}, {max(times):.2f}]")


if __name__ == "__main__":
    main()
