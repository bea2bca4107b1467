//! Each fault that the interpreter must see: the oracle has to be trusted before it judges.

use super::{Code, Fault, FaultKind, Input, Machine, Outcome, Place, Quiet, View, Watch};
use crate::{helpers::Env, testing::asm::assemble};

fn run(text: &str) -> Result<Outcome, FaultKind> {
    let assembly = assemble(text).unwrap_or_else(|what| panic!("{what}"));
    let object = &assembly.object;
    let code = Code::new(&object.programs[0].insns, &object.maps, &object.regions);
    let mut quiet = Quiet;
    let mut machine = Machine::new(&code, Env::detached(), &mut quiet);
    let input = Input { context: (0..88).collect(), writable: std::iter::once(80..88).collect(), ..Input::default() };
    machine.run(&input, &mut ()).map_err(|fault| fault.kind)
}

#[test]
fn programs_compute() {
    let loops = "r0 = 0\nr2 = 0\nloop: r0 += r2\nr2 += 1\nif r2 < 10 goto loop\nexit";
    let outcome = run(loops).unwrap();
    assert_eq!((outcome.result, outcome.steps, outcome.cost), (45, 33, 33));
    assert_eq!(run("r0 = *(u16 *)(r1 + 2)\nexit").unwrap().result, 0x0302);
    let calls = "r1 = 5\nr6 = 1\ncall f\nr0 += r6\nexit\nfn f\nr6 = 100\nr0 = r1\nr0 *= 3\nexit";
    assert_eq!(run(calls).unwrap().result, 16);
    let callback = "*(u64 *)(r10 - 8) = 0\nr1 = 5\nr2 = function add ll\nr3 = r10\nr3 += -8\nr4 = 0\ncall loop\n\
                    r1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit\nfn add\nr3 = *(u64 *)(r2 + 0)\nr3 += r1\n*(u64 *)(r2 + 0) = r3\n\
                    r0 = 0\nif r1 < 3 goto out\nr0 = 1\nout: exit";
    assert_eq!(run(callback).unwrap().result, 4 + 6, "four rounds, 0 + 1 + 2 + 3");
    assert_eq!(run("*(u32 *)(r1 + 84) = 7\nr0 = *(u64 *)(r1 + 80)\nexit").unwrap().result >> 32, 7);
    let globals = "data .bss 16\nr1 = .bss[8] ll\nr2 = 5\nlock *(u64 *)(r1 + 0) += r2\nr0 = *(u64 *)(r1 + 0)\nexit";
    assert_eq!(run(globals).unwrap().result, 5);
}

#[test]
fn helpers_count_what_they_cost() {
    let outcome = run("call get_smp_processor_id\nexit").unwrap();
    let spec = crate::helpers::find(8).unwrap();
    assert_eq!((outcome.steps, outcome.cost), (2, 2 + spec.cost.of(0)));
}

#[test]
fn faults_are_seen() {
    let stack = |offset, size| FaultKind::OutOfBounds { place: Place::Stack(0), offset, size };
    let cases: &[(&str, FaultKind)] = &[
        ("exit", FaultKind::Uninitialised),
        ("r0 = r2\nexit", FaultKind::Uninitialised),
        ("r0 = *(u64 *)(r10 - 8)\nexit", FaultKind::Uninitialised),
        ("*(u32 *)(r10 - 8) = 1\nr0 = *(u64 *)(r10 - 8)\nexit", FaultKind::Uninitialised),
        ("call get_smp_processor_id\nr0 = r1\nexit", FaultKind::Uninitialised),
        ("r6 = 1\ncall f\nexit\nfn f\nr0 = r6\nexit", FaultKind::Uninitialised),
        ("*(u64 *)(r10 + 0) = 1\nexit", stack(512, 8)),
        ("*(u8 *)(r10 - 513) = 1\nexit", stack(-1, 1)),
        ("r0 = *(u64 *)(r1 + 84)\nexit", FaultKind::OutOfBounds { place: Place::Context, offset: 84, size: 8 }),
        ("*(u64 *)(r1 + 0) = 1\nexit", FaultKind::ReadOnly { place: Place::Context, offset: 0 }),
        ("r1 = 64\nr0 = *(u64 *)(r1 + 0)\nexit", FaultKind::NoPointer),
        ("r0 = r1\nexit", FaultKind::Leak),
        ("w0 = w1\nexit", FaultKind::Leak),
        ("r0 = 0\nif r1 > 5 goto +0\nexit", FaultKind::Leak),
        ("r0 = 0\nif r1 == r10 goto +0\nexit", FaultKind::Leak),
        ("*(u64 *)(r10 - 8) = r1\nr0 = *(u32 *)(r10 - 8)\nexit", FaultKind::Leak),
        ("*(u32 *)(r10 - 8) = r1\nexit", FaultKind::Leak),
        ("*(u64 *)(r10 - 8) = r1\n*(u8 *)(r10 - 8) = 1\nr0 = *(u8 *)(r10 - 7)\nexit", FaultKind::Uninitialised),
        ("data .bss 8\nr2 = .bss[0] ll\n*(u64 *)(r2 + 0) = r1\nexit", FaultKind::Leak),
        ("r1 *= 2\nexit", FaultKind::PointerArithmetic),
        ("w1 += 2\nexit", FaultKind::PointerArithmetic),
        ("r2 = r10\nr2 -= r1\nexit", FaultKind::PointerArithmetic),
        ("call 99999\nexit", FaultKind::UnknownHelper(99999)),
        ("r1 = 0\nr2 = 0\ncall map_lookup_elem\nexit", FaultKind::Argument(1)),
        ("call f\nr1 = *(u64 *)(r0 - 8)\nexit\nfn f\nr0 = r10\nexit", FaultKind::Dangling { place: Place::Stack(1) }),
        ("call f\nexit\nfn f\ncall f\nexit", FaultKind::TooDeep),
        ("here: goto here", FaultKind::TooLong),
        ("r0 = 0", FaultKind::NoInstruction),
        (
            "r1 = 3\nr2 = function f ll\nr3 = 0\nr4 = 0\ncall loop\nexit\nfn f\nr0 = 2\nexit",
            FaultKind::CallbackResult(2),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(run(text).as_ref(), Err(expected), "{text}");
    }
}

/// A world in which everything is found.
struct Found;

impl super::Noise for Found {
    fn next(&mut self) -> u64 {
        1
    }
}

fn run_found(text: &str) -> Result<Outcome, Fault> {
    let object = assemble(text).unwrap().object;
    let code = Code::new(&object.programs[0].insns, &object.maps, &object.regions);
    Machine::new(&code, Env::detached(), &mut Found).run(&Input { context: vec![0; 88], ..Input::default() }, &mut ())
}

#[test]
fn records_are_given_back() {
    let head = "map events ringbuf 0 0 4096\n@reserve events 16\nif r0 == 0 goto out\nr6 = r0\n*(u64 *)(r6 + 8) = 1\n";
    let ended = |rest: &str| run_found(&format!("{head}{rest}\nout: r0 = 0\nexit")).map_err(|fault| fault.kind);
    assert!(ended("@submit r6").is_ok());
    assert_eq!(ended(""), Err(FaultKind::OpenRecord));
    let place = Place::Record(0);
    assert_eq!(ended("@submit r6\n@submit r6"), Err(FaultKind::Dangling { place }));
    assert_eq!(ended("@submit r6\n*(u64 *)(r6 + 0) = 1"), Err(FaultKind::Dangling { place }));
    assert_eq!(ended("r6 += 8\n@submit r6"), Err(FaultKind::Argument(1)));
    assert_eq!(ended("*(u64 *)(r6 + 16) = 1"), Err(FaultKind::OutOfBounds { place, offset: 16, size: 8 }));
}

#[test]
fn a_bloom_filter_reads_what_others_fill() {
    let peek = |kind: &str| {
        let text = format!(
            "map m {kind} 0 8 16\nrodata .rodata 8\nr1 = map[m] ll\nr2 = .rodata[0] ll\ncall map_peek_elem\nr0 = 0\nexit"
        );
        run(&text).map(|outcome| outcome.result)
    };
    assert_eq!(peek("bloom_filter"), Ok(0));
    let place = Place::Global { region: 0, writable: false };
    assert_eq!(peek("queue"), Err(FaultKind::ReadOnly { place, offset: 0 }));
}

#[test]
fn values_belong_to_others_too() {
    let text = "map m array 4 8 4\n@lookup m\n*(u64 *)(r0 + 0) = 0\nr0 = *(u64 *)(r0 + 0)\nexit";
    assert_eq!(run_found(text).unwrap().result, 1, "another thread wrote meanwhile");
    assert_eq!(run(text), Err(FaultKind::NoPointer), "nothing is found in a quiet world");
}

#[test]
fn every_instruction_is_seen() {
    struct Seen(Vec<(usize, usize)>);
    impl Watch for Seen {
        fn before(&mut self, view: &View<'_>) {
            self.0.push((view.pc, view.frames.len()));
        }
    }
    let object = assemble("r1 = 1\ncall f\nexit\nfn f\nr0 = r1\nexit").unwrap().object;
    let code = Code::new(&object.programs[0].insns, &object.maps, &object.regions);
    let (mut quiet, mut seen) = (Quiet, Seen(Vec::new()));
    Machine::new(&code, Env::detached(), &mut quiet).run(&Input::default(), &mut seen).unwrap();
    assert_eq!(seen.0, [(0, 1), (1, 1), (3, 2), (4, 2), (2, 1)]);
}
