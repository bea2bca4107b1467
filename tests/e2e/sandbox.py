"""Takes rights away from the calling process: system calls by seccomp, and memory that is writable, then executable."""

import ctypes
import errno
import os
import struct
from typing import NoReturn

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_NO_NEW_PRIVS = 38
_SYS_SECCOMP = 317
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_PR_SET_MDWE = 65
_PR_MDWE_REFUSE_EXEC_GAIN = 1

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

#: Numbers of x86-64.
MPROTECT = 10
MEMFD_CREATE = 319
MEMBARRIER = 324


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def deny(system_call: int) -> None:
    """Makes a system call fail with EPERM in all threads of this process, for good."""

    def instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    code = (
        instruction(_LOAD_WORD, 0, 0, 0)  # the number is the first word of struct seccomp_data
        + instruction(_JUMP_EQUAL, 0, 1, system_call)
        + instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM)
        + instruction(_RETURN, 0, 0, _ALLOW)
    )
    program = _Program(len(code) // 8, code)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0)
    arguments = (_SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC)
    if _LIBC.syscall(*map(ctypes.c_long, arguments), ctypes.byref(program)) != 0:
        _fail()


def deny_write_then_execute() -> bool:
    """Forbids memory that was writable to become executable. False where the kernel (before 6.3) cannot."""
    try:
        _prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def _prctl(option: int, first: int, second: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    if _LIBC.prctl(ctypes.c_int(option), *arguments) != 0:
        _fail()


def _fail() -> NoReturn:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
