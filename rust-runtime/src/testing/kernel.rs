//! The kernel's verifier as a second opinion, through bpf(2).
//!
//! It is asked twice, by threads with fewer capabilities than the process. With CAP_BPF and CAP_NET_ADMIN it refuses leaks of
//! pointers and reads of uninitialised stack, and for the sake of Spectre alone also much that is sound: such refusals are known
//! by their words and do not count. With CAP_PERFMON too it judges bounds and termination as for root.
//!
//! Programs are loaded as BPF_PROG_TYPE_SYSCALL, whose context is plain bytes. Nothing is attached; where it is asked to, the
//! kernel runs an accepted program on a context (BPF_PROG_TEST_RUN): a third opinion on results.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use crate::{
    isa::{Insn, LDDW, LDDW_MAP, LDDW_MEMORY},
    object::{MapDef, Object},
};

const BPF_MAP_CREATE: i64 = 0;
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_TEST_RUN: i64 = 10;
const BPF_BTF_LOAD: i64 = 18;
const BPF_MAP_FREEZE: i64 = 22;
const BPF_PROG_TYPE_SYSCALL: u32 = 31;
const BPF_F_SLEEPABLE: u32 = 1 << 4;
const BPF_F_RDONLY_PROG: u32 = 1 << 7;
/// Levels of the log. BPF_LOG_STATS has what was wrong, and what it took; BPF_LOG_LEVEL1 the way there as well.
const ERROR_ALONE: u32 = 4;
const EVERY_STEP: u32 = 1;

const CAP_NET_ADMIN: u32 = 12;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    Accepts,
    /// The last lines of its log.
    Rejects(String),
}

/// Words of refusals without CAP_PERFMON that are about speculation only, or about limits: what is explored for its sake counts.
const SPECULATION: [&str; 4] = ["for !root", "too large", "too complex", "Cannot allocate memory"];

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    rest: [u32; 10],
}

#[repr(C)]
struct MapUpdate {
    map: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    rest: [u32; 9],
}

#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
}

/// Of BPF_PROG_TYPE_SYSCALL: a context, and the lower half of r0.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_sizes: [u32; 2],
    data: [u64; 2],
    repeat_and_duration: [u32; 2],
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    rest: [u64; 3],
}

fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<i64> {
    let (size, attributes) = (std::mem::size_of::<T>(), std::ptr::from_mut(attributes).cast::<c_void>());
    // SAFETY: the attributes are a prefix of the kernel's union for the command, as long as `size` says, and every address in
    // them is of memory that the caller borrows over the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn bpf_fd<T>(command: i64, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the command gave a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Keeps only these capabilities, in the calling thread.
fn keep_capabilities(kept: &[u32]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    // Version and thread; 0 is the calling one.
    let mut header = [VERSION_3, 0];
    // Effective, permitted, inheritable; the lower 32 capabilities first.
    let mut sets = [[0u32; 3]; 2];
    for cap in kept {
        let words = &mut sets[(cap / 32) as usize];
        (words[0], words[1]) = (words[0] | 1 << (cap % 32), words[1] | 1 << (cap % 32));
    }
    // SAFETY: header and sets are what version 3 of the call takes; it changes the calling thread alone.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A verifier that may be asked.
#[derive(Debug)]
pub struct Kernel {
    leaks: Judge,
    bounds: Judge,
}

/// A thread with few capabilities.
#[derive(Debug)]
struct Judge {
    requests: Sender<Request>,
    answers: Receiver<Result<Answer, String>>,
}

#[derive(Debug)]
struct Answer {
    opinion: Opinion,
    /// The lower half of r0, by context.
    results: Vec<u32>,
}

#[derive(Debug)]
struct Request {
    insns: Vec<Insn>,
    starts: Vec<u32>,
    /// None: the program does not refer to it.
    maps: Vec<Option<MapRequest>>,
    /// What to run it on, if it is accepted.
    contexts: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct MapRequest {
    create: MapCreate,
    /// What the maps inside of it look like.
    inner: Option<Box<MapRequest>>,
    /// Of a map that never changes: its only value.
    constants: Option<Vec<u8>>,
}

impl Kernel {
    /// Err: why the machine does not answer; say so aloud.
    pub fn ask() -> Result<Kernel, String> {
        let leaks = Judge::start(&[CAP_BPF, CAP_NET_ADMIN]);
        let bounds = Judge::start(&[CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON]);
        for judge in [&leaks, &bounds] {
            let insns = vec![Insn { code: 0xb7, ..Insn::default() }, Insn { code: 0x95, ..Insn::default() }];
            let request = Request { insns, starts: vec![0], maps: Vec::new(), contexts: Vec::new() };
            match judge.judge(request)?.opinion {
                Opinion::Accepts => {}
                Opinion::Rejects(log) => return Err(format!("bpf(2) refuses the smallest program: {log}")),
            }
        }
        Ok(Kernel { leaks, bounds })
    }

    /// What it says of a program of an object. Functions are told as static ones, whatever they are.
    pub fn judge(&self, object: &Object, program: usize) -> Result<Opinion, String> {
        match self.leaks.judge(request(object, program, &[]))?.opinion {
            Opinion::Rejects(log) if !SPECULATION.iter().any(|word| log.contains(word)) => {
                return Ok(Opinion::Rejects(log));
            }
            _ => {}
        }
        self.bounds.judge(request(object, program, &[])).map(|answer| answer.opinion)
    }

    /// The lower halves of what a program returns, run after run with the same variables; none, if it is refused.
    pub fn run(&self, object: &Object, contexts: &[Vec<u8>]) -> Result<Vec<u32>, String> {
        self.bounds.judge(request(object, 0, contexts)).map(|answer| answer.results)
    }
}

impl Judge {
    fn start(kept: &'static [u32]) -> Judge {
        let (requests, inbox) = channel::<Request>();
        let (outbox, answers) = channel();
        thread::spawn(move || {
            let ready = keep_capabilities(kept).map_err(|error| format!("capabilities cannot be dropped: {error}"));
            for request in inbox {
                let answer = ready.clone().and_then(|()| load(request));
                if outbox.send(answer).is_err() {
                    return;
                }
            }
        });
        Judge { requests, answers }
    }

    fn judge(&self, request: Request) -> Result<Answer, String> {
        self.requests.send(request).map_err(|error| error.to_string())?;
        self.answers.recv().map_err(|error| error.to_string())?
    }
}

/// The object in the kernel's terms; descriptors are put in by the thread that makes the maps.
fn request(object: &Object, program: usize, contexts: &[Vec<u8>]) -> Request {
    let program = &object.programs[program];
    let is_used = |index: usize| {
        let refers = |insn: &Insn| insn.code == LDDW && matches!(insn.src, LDDW_MAP | LDDW_MEMORY);
        program.insns.iter().any(|insn| refers(insn) && insn.imm as usize == index)
    };
    let maps = object.maps.iter().enumerate().map(|(index, map)| is_used(index).then(|| map_request(object, map)));
    let starts = program.functions.iter().map(|function| function.start as u32).collect();
    Request { insns: program.insns.clone(), starts, maps: maps.collect(), contexts: contexts.to_vec() }
}

fn map_request(object: &Object, map: &MapDef) -> MapRequest {
    let region = map.region.map(|region| &object.regions[region]).filter(|region| !region.writable);
    let constants = region.map(|region| {
        let mut bytes = region.bytes.clone();
        bytes.resize(region.size as usize, 0);
        bytes
    });
    let create = MapCreate {
        map_type: map.kind as u32,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        map_flags: if constants.is_some() { BPF_F_RDONLY_PROG } else { map.flags },
        ..MapCreate::default()
    };
    let inner = map.inner.as_ref().map(|inner| Box::new(map_request(object, inner)));
    MapRequest { create, inner, constants }
}

fn make_map(MapRequest { mut create, inner, constants }: MapRequest) -> Result<OwnedFd, String> {
    let inner = inner.map(|inner| make_map(*inner)).transpose()?;
    create.inner_map_fd = inner.as_ref().map_or(0, |map| map.as_raw_fd() as u32);
    let map = bpf_fd(BPF_MAP_CREATE, &mut create).map_err(|error| format!("a map cannot be made: {error}"))?;
    if let Some(constants) = constants {
        let (key, value) = (0u32, constants.as_ptr() as u64);
        let fd = map.as_raw_fd() as u32;
        let mut update = MapUpdate { map: fd.into(), key: &raw const key as u64, value, flags: 0 };
        bpf(BPF_MAP_UPDATE_ELEM, &mut update).map_err(|error| format!("a map cannot be filled: {error}"))?;
        bpf(BPF_MAP_FREEZE, &mut [fd]).map_err(|error| format!("a map cannot be frozen: {error}"))?;
    }
    Ok(map)
}

fn run(program: &OwnedFd, context: &mut [u8]) -> Result<u32, String> {
    let mut attributes = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        ctx_size_in: context.len() as u32,
        ctx_in: context.as_mut_ptr() as u64,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attributes).map_err(|error| format!("a program cannot be run: {error}"))?;
    Ok(attributes.retval)
}

fn load(mut request: Request) -> Result<Answer, String> {
    let maps = request.maps.into_iter().map(|map| map.map(make_map).transpose()).collect::<Result<Vec<_>, _>>()?;
    for insn in &mut request.insns {
        if insn.code == LDDW && matches!(insn.src, LDDW_MAP | LDDW_MEMORY) {
            // A map that does not exist is the verifier's to refuse.
            insn.imm = maps.get(insn.imm as usize).and_then(Option::as_ref).map_or(-1, |map| map.as_raw_fd());
        }
    }
    let btf = functions(&request.starts).map_err(|error| format!("types cannot be loaded: {error}"))?;
    let info: Vec<[u32; 2]> = request.starts.iter().enumerate().map(|(at, &start)| [start, 3 + at as u32]).collect();
    let bytes: Vec<u8> = request.insns.iter().flat_map(|insn| insn.to_bytes()).collect();
    let mut attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_SYSCALL,
        insn_cnt: request.insns.len() as u32,
        insns: bytes.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        prog_flags: BPF_F_SLEEPABLE,
        prog_btf_fd: btf.as_raw_fd() as u32,
        func_info_rec_size: 8,
        func_info: info.as_ptr() as u64,
        func_info_cnt: info.len() as u32,
        ..ProgLoad::default()
    };
    // Of a log that is too long the kernel keeps the end, and another error stands for the first.
    let mut log = vec![0u8; 1 << 16];
    (attributes.log_size, attributes.log_buf) = (log.len() as u32, log.as_mut_ptr() as u64);
    attributes.log_level = ERROR_ALONE;
    let refusal = match bpf_fd(BPF_PROG_LOAD, &mut attributes) {
        Ok(program) => {
            let results =
                request.contexts.iter_mut().map(|context| run(&program, context)).collect::<Result<_, _>>()?;
            return Ok(Answer { opinion: Opinion::Accepts, results });
        }
        Err(refusal) => refusal,
    };
    // The way there helps a reader. Of a program that was too much for the kernel it is a million instructions long, and takes seconds.
    if refusal.raw_os_error() != Some(libc::E2BIG) {
        log.fill(0);
        attributes.log_level = EVERY_STEP;
        if bpf_fd(BPF_PROG_LOAD, &mut attributes).is_ok() {
            return Ok(Answer { opinion: Opinion::Accepts, results: Vec::new() });
        }
    }
    let opinion = Opinion::Rejects(format!("{} ({refusal})", last_words(&log)));
    Ok(Answer { opinion, results: Vec::new() })
}

/// How its lines begin that say what it took.
const STATISTICS: [&str; 3] = ["processed", "verification time", "stack depth"];

/// The lines of a log that say why.
fn last_words(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let is_count = |line: &&str| STATISTICS.iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = text.lines().filter(|line| !is_count(line)).collect();
    lines[lines.len().saturating_sub(4)..].join(" | ")
}

/// Types that say of each function that it is static: `int f(void)`. The functions are types 3 and up.
fn functions(starts: &[u32]) -> io::Result<OwnedFd> {
    const INT: u32 = 1 << 24;
    const FUNC: u32 = 12 << 24;
    const FUNC_PROTO: u32 = 13 << 24;
    let strings = b"\0int\0f\0";
    let mut types = vec![1, INT, 4, 1 << 24 | 32, 0, FUNC_PROTO, 1];
    for _ in starts {
        types.extend([5, FUNC, 2]);
    }
    let length = 4 * types.len() as u32;
    let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
    let words = header.iter().chain(&types).flat_map(|word: &u32| word.to_le_bytes());
    let bytes: Vec<u8> = words.chain(strings.iter().copied()).collect();
    let mut attributes = BtfLoad { btf: bytes.as_ptr() as u64, size: bytes.len() as u32, ..BtfLoad::default() };
    bpf_fd(BPF_BTF_LOAD, &mut attributes)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, sync::Arc};

    use super::*;
    use crate::{
        helpers::Env,
        isa::Insn,
        testing::{
            clang, corpus, fuzz,
            vague::{self, Knowledge},
        },
        verifier,
        vm::{Code, Input, Machine, Quiet},
    };

    /// A refusal that we do not share: words of the kernel's log, which programs it may hit, and why we are right.
    struct Explained {
        words: &'static str,
        program: fn(&Object) -> bool,
        why: &'static str,
    }

    const EXPLAINED: [Explained; 17] = [
        Explained {
            words: "combined stack size",
            program: any,
            why: "our frames have 512 bytes each, not 512 together",
        },
        Explained { words: "too large", program: any, why: "its limit of instructions; we prove the loop at once" },
        Explained {
            words: "too complex",
            program: any,
            why: "its limits of states and of jumps; we prove the loop at once",
        },
        Explained {
            words: "infinite loop detected",
            program: any,
            why: "it takes two states that differ in what is not compared for the same; we count the rounds",
        },
        Explained {
            words: "invalid access to map value pointer",
            program: points_behind,
            why: "it refuses the address behind a variable's last byte even where no way uses it; we refuse the use",
        },
        Explained {
            words: "number of funcs in func_info",
            program: any,
            why: "our loader keeps functions that nobody calls",
        },
        Explained {
            words: "pointer comparison prohibited",
            program: has_null_on_the_left,
            why: "it knows null only on the right of a comparison; the comparison tells no more than that one",
        },
        Explained {
            words: "",
            program: |object| vague::hangs_on(object, &[Knowledge::Quotients]),
            why: "it knows nothing of quotients, remainders and shifts by a register; what we know of them is proved in \
                domain/tests",
        },
        Explained {
            words: "",
            program: |object| vague::hangs_on(object, &[Knowledge::Itself]),
            why: "it takes both ways of a comparison of a register with itself; one of them is never taken",
        },
        Explained {
            words: "",
            program: |object| vague::hangs_on(object, &[Knowledge::NegativeShifts]),
            why: "it forgets the bounds of a negative number that is shifted to the left",
        },
        Explained {
            words: "",
            program: |object| vague::hangs_on(object, &[Knowledge::BitTests]),
            why: "it takes both ways of a test of bits that are known by the number's range alone",
        },
        Explained {
            words: "",
            program: |object| vague::hangs_on(object, &[Knowledge::Parts]),
            why: "of a number on the stack it knows no part but the lowest",
        },
        Explained {
            words: "variable-offset",
            program: is_bounded_with_both_signs,
            why: "of a number above a constant it forgets that once a signed comparison has shown that it is not negative",
        },
        Explained { words: "variable-offset", program: compares_an_index_later, why: LATER },
        Explained { words: "outside of the allowed memory range", program: compares_an_index_later, why: LATER },
        Explained {
            words: "attempt to corrupt spilled pointer",
            program: overwrites_what_a_round_left,
            why: "it refuses to overwrite a part of a pointer that an earlier round of a loop left on the stack; to us, what is \
                left counts as unwritten in every round, and nothing reads it",
        },
        Explained {
            words: "",
            program: |object| vague::hangs_on(object, &Knowledge::ALL),
            why: "several of what it does not know, one behind the other",
        },
    ];
    const LATER: &str =
        "a pointer that was moved by an index does not learn from what the index is compared with later";
    /// So many unexplained programs are made small.
    const REDUCED: usize = 3;

    const MOV64_REG: u8 = 0xbf;

    fn any(_: &Object) -> bool {
        true
    }

    /// Has the address that lies right behind a section of variables.
    fn points_behind(object: &Object) -> bool {
        object.programs[0].insns.windows(2).any(|pair| {
            let region = object.regions.get(pair[0].imm as usize);
            let is_address = pair[0].code == LDDW && pair[0].src == LDDW_MEMORY;
            is_address && region.is_some_and(|region| region.size == pair[1].imm as u64)
        })
    }

    /// Compares a register that was just made 0 with another.
    fn has_null_on_the_left(object: &Object) -> bool {
        const MOV64_IMM: u8 = 0xb7;
        const JEQ_REG: u8 = 0x1d;
        const JNE_REG: u8 = 0x5d;
        object.programs[0].insns.windows(2).any(|pair| {
            let is_zero = pair[0].code == MOV64_IMM && pair[0].imm == 0;
            is_zero && matches!(pair[1].code, JEQ_REG | JNE_REG) && pair[1].dst == pair[0].dst
        })
    }

    /// We refuse an access, too, if a pointer has nothing to do with the index that it was moved by.
    fn compares_an_index_later(object: &Object) -> bool {
        let refused = |vague: Object| verifier::judge_generic(&vague).err();
        let id = vague::without(object, &[Knowledge::Indices]).and_then(refused).map(|rejection| rejection.id());
        id.is_some_and(|id| matches!(id, "stack-bounds" | "out-of-bounds"))
    }

    /// We refuse it, too, where the first rounds of loops are explored one by one.
    fn overwrites_what_a_round_left(object: &Object) -> bool {
        verifier::judge_patiently(object).is_err_and(|rejection| rejection.id() == "stack-pointer-corrupted")
    }

    /// `if a > k goto`, unsigned, and there, of `a` or a copy: `if b s< 0 goto`, `if b s> less goto`. Nothing comes behind these.
    fn is_bounded_with_both_signs(object: &Object) -> bool {
        const JGT_IMM: u8 = 0x25;
        let insns = &object.programs[0].insns;
        insns.iter().enumerate().any(|(at, insn)| {
            let target = (at as i64 + 1 + i64::from(insn.off)) as usize;
            let copied = at.checked_sub(1).map(|before| insns[before]);
            let copied = copied.filter(|before| before.code == MOV64_REG && before.dst == insn.dst);
            let numbers = copied.map(|before| before.src).into_iter().chain([insn.dst]).collect();
            insn.code == JGT_IMM && insn.imm >= 0 && is_excluded(&insns[target..], numbers, insn.imm)
        })
    }

    /// One of these registers, which are above `bound`, is compared with 0 and then with less than `bound`.
    fn is_excluded(insns: &[Insn], mut numbers: Vec<u8>, bound: i32) -> bool {
        const JSLT_IMM: u8 = 0xc5;
        const JSGT_IMM: u8 = 0x65;
        let mut not_negative = false;
        for insn in insns {
            let is_number = numbers.contains(&insn.dst);
            match insn.code {
                MOV64_REG if numbers.contains(&insn.src) => numbers.push(insn.dst),
                JSLT_IMM if is_number && insn.imm == 0 => not_negative = true,
                JSGT_IMM if is_number && not_negative => return insn.imm < bound,
                code if matches!(code & 7, 5 | 6) => return false,
                code if matches!(code & 7, 2 | 3) => {}
                _ => numbers.retain(|&number| number != insn.dst),
            }
        }
        false
    }

    /// The reason that explains a refusal.
    fn explanation(object: &Object, log: &str) -> Option<&'static str> {
        let explained = EXPLAINED.iter().find(|explained| log.contains(explained.words) && (explained.program)(object));
        explained.map(|explained| explained.why)
    }

    /// We accept it, and the kernel refuses it in the words of another refusal, without numbers, for no reason of the list.
    fn is_refused_alike(kernel: &Kernel, program: &Object, refusal: &str) -> bool {
        fn words(log: &str) -> String {
            let last = log.rsplit(" | ").next().unwrap_or(log);
            last.chars().filter(|letter| !letter.is_ascii_digit()).collect()
        }
        verifier::judge_generic(program).is_ok()
            && matches!(kernel.judge(program, 0), Ok(Opinion::Rejects(log))
                if words(&log) == words(refusal) && explanation(program, &log).is_none())
    }

    /// More with DUCKBPF_CASES=5000.
    fn programs(default: u64) -> u64 {
        std::env::var("DUCKBPF_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
    }

    fn kernel() -> Option<Kernel> {
        match Kernel::ask() {
            Ok(kernel) => Some(kernel),
            Err(why) => {
                eprintln!("SKIPPED: the kernel's verifier cannot be asked here: {why}");
                None
            }
        }
    }

    /// It does not know our hooks: the programs are judged with a context of plain bytes on both sides.
    #[test]
    fn generated_programs_that_we_accept_the_kernel_accepts() {
        let Some(kernel) = kernel() else { return };
        let (mut both, mut only_kernel, mut only_us, mut unexplained) = (0, 0, 0, Vec::new());
        let mut reasons = BTreeMap::<&str, u64>::new();
        let programs = programs(40);
        for seed in 0..programs {
            let object = fuzz::generate(seed, fuzz::Features { helpers: fuzz::Helpers::None, mistakes: 10 });
            let ours = verifier::judge_generic(&object);
            match (ours, kernel.judge(&object, 0).expect("the kernel answers")) {
                (Ok(()), Opinion::Accepts) => both += 1,
                (Ok(()), Opinion::Rejects(log)) => {
                    only_us += 1;
                    match explanation(&object, &log) {
                        Some(why) => *reasons.entry(why).or_default() += 1,
                        None => {
                            // Hundreds of questions each.
                            let small = if unexplained.len() < REDUCED {
                                fuzz::smallest(&object, |program| is_refused_alike(&kernel, program, &log))
                            } else {
                                object
                            };
                            unexplained.push(format!("seed {seed}: {log}\n{}", fuzz::text(&small)));
                        }
                    }
                }
                (Err(_), Opinion::Accepts) => only_kernel += 1,
                (Err(_), Opinion::Rejects(_)) => {}
            }
        }
        println!(
            "{programs} programs: {both} accepted by both, {only_kernel} by the kernel alone, {only_us} by us alone"
        );
        for (why, count) in reasons {
            println!("{count:>8}  {why}");
        }
        assert!(unexplained.is_empty(), "{} of {programs}\n{}", unexplained.len(), unexplained.join("\n"));
        assert!(both * 5 >= programs, "{both}");
    }

    /// A program as `kernel-refusals.txt` has it: where its functions begin, then its instructions.
    fn written_program(text: &str) -> (&str, Arc<Object>) {
        let (head, words) = text.split_once('\n').expect("a line of its own");
        let (seed, starts) = head.split_once(": functions at ").expect("where functions begin");
        let starts: Vec<usize> = starts.split(' ').map(|start| start.parse().expect("an instruction")).collect();
        let insn = |word: &str| {
            let part = |range| u32::from_str_radix(&word[range], 16).expect("hexadecimal digits");
            let (src, dst) = (part(2..3) as u8, part(3..4) as u8);
            Insn { code: part(0..2) as u8, src, dst, off: part(4..8) as u16 as i16, imm: part(8..16) as i32 }
        };
        (seed, fuzz::object(words.split_whitespace().map(insn).collect(), &starts))
    }

    /// Programs whose refusals were read instruction by instruction. Of a sixth, 3009, the kernel thinks for a minute.
    #[test]
    fn refusals_that_were_read_have_their_reasons() {
        let Some(kernel) = kernel() else { return };
        let text = include_str!("../../tests/kernel-refusals.txt");
        let mut read = 0;
        for (seed, object) in text.split("== ").skip(1).map(written_program) {
            assert!(verifier::judge_generic(&object).is_ok(), "seed {seed}");
            read += 1;
            if let Opinion::Rejects(log) = kernel.judge(&object, 0).expect("the kernel answers") {
                let why = explanation(&object, &log);
                println!("seed {seed}: {}", why.unwrap_or("no reason"));
                assert!(why.is_some(), "seed {seed}: {log}");
            }
        }
        assert_eq!(read, 5);
    }

    /// The kernel's machine code and our interpreter, which `fuzz/machine_code.rs` compares with our machine code.
    #[test]
    fn programs_return_what_the_kernel_returns() {
        let Some(kernel) = kernel() else { return };
        let (mut random, mut compared) = (fuzz::Random::new(1), 0);
        for seed in 0..programs(40) {
            let object = fuzz::generate(seed, fuzz::Features { helpers: fuzz::Helpers::None, mistakes: 0 });
            if verifier::judge_generic(&object).is_err() {
                continue;
            }
            let contexts: Vec<Vec<u8>> =
                (0..10).map(|_| random.context().iter().flat_map(|word| word.to_le_bytes()).collect()).collect();
            let theirs = kernel.run(&object, &contexts).expect("the kernel answers");
            let code = Code::new(&object.programs[0].insns, &object.maps, &object.regions);
            let mut globals: Vec<Vec<u8>> = Vec::new();
            for (context, result) in contexts.into_iter().zip(theirs) {
                let mut quiet = Quiet;
                let mut machine = Machine::new(&code, Env::detached(), &mut quiet);
                for bytes in globals.drain(..) {
                    machine.add_global(bytes);
                }
                let ours = machine.run(&Input { context, ..Input::default() }, &mut ()).expect("it was verified");
                assert_eq!(ours.result as u32, result, "seed {seed}\n{}", fuzz::text(&object));
                globals =
                    (0..object.regions.len() as u32).map(|id| machine.memory().region(id).bytes.clone()).collect();
                compared += 1;
            }
        }
        println!("{compared} runs as in the kernel");
        assert!(compared >= 100, "{compared}");
    }

    #[test]
    fn the_corpus_agrees_with_the_kernel() {
        let Some(kernel) = kernel() else { return };
        let mut unexplained = Vec::new();
        for case in corpus::cases() {
            let assembly = crate::testing::asm::assemble(&case.text).expect("the corpus assembles");
            if assembly.hook.is_some() || case.rejection.is_some() {
                continue;
            }
            if let Opinion::Rejects(log) = kernel.judge(&assembly.object, 0).expect("the kernel answers")
                && explanation(&assembly.object, &log).is_none()
            {
                unexplained.push(format!("{}: {}: {log}", case.family, case.name));
            }
        }
        assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    }

    /// The programs of a file of `tests/habits`, as clang builds them.
    fn habits(source: &Path) -> Object {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let object = folder.path().join("habits.o");
        clang::compile(source, &object, &["-mcpu=v4", "-Wno-unused"]);
        crate::object::parse_foreign(&std::fs::read(&object).expect("it was written")).expect("it is read").0
    }

    /// What a name says of the kernel; None: nothing that can be asked here. Programs of other types have contexts of their
    /// own, and here global functions are told as static ones.
    fn expects(program: &crate::object::ProgramText) -> Option<bool> {
        let is_asked = program.section == "syscall" && !program.symbol.contains("global");
        let accepts = program.symbol.starts_with("ok_") || program.symbol.starts_with("theirs_");
        is_asked.then_some(accepts)
    }

    /// Their names say what both verifiers say of them; `tests/habits.rs` asks ours. Kernels differ: this asks the one that the
    /// names were checked with.
    #[test]
    fn habits_are_judged_by_the_kernel_as_their_names_say() {
        const CHECKED: &str = "6.18.";
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let Some(kernel) = kernel() else { return };
        if !release.starts_with(CHECKED) {
            return eprintln!("SKIPPED: habits are checked with Linux {CHECKED}, not {release}");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/habits");
        let sources = folder.read_dir().expect("the folder is there").flatten().map(|entry| entry.path());
        let (mut wrong, mut judged) = (Vec::new(), 0);
        for source in sources.filter(|path| path.extension().is_some_and(|ending| ending == "c")) {
            let object = habits(&source);
            for (index, program) in object.programs.iter().enumerate() {
                let Some(accepts) = expects(program) else { continue };
                match kernel.judge(&object, index).expect("the kernel answers") {
                    // Programs of this type cannot have every map.
                    Opinion::Rejects(log) if log.contains("Sleepable programs can only use") => continue,
                    opinion if matches!(opinion, Opinion::Accepts) != accepts => {
                        wrong.push(format!("{}: {opinion:?}", program.symbol));
                    }
                    _ => {}
                }
                judged += 1;
            }
        }
        assert!(judged >= 300, "{judged}");
        assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
    }
}
