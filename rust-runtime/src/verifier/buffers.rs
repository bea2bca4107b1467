//! Buffers with an end, which no hook has yet: a context of two fields that is made for these tests.

use super::{
    Options, check,
    record::Recorder,
    rules::{Content, Field, Rules, generic},
};
use crate::testing::asm::assemble;

const fn field(name: &'static str, offset: u32, content: Content) -> Field {
    Field { name, offset, size: 8, count: 1, signed: false, content, writable: false }
}

const FIELDS: &[Field] = &[
    field("data", 0, Content::Buffer),
    field("data_end", 8, Content::BufferEnd),
    field("n", 16, Content::Number),
    field("m", 24, Content::Number),
];

/// What is said of a program that begins with r2 at the buffer's first byte and r3 at its end, both copied from the context.
fn judged(text: &str, writable: bool) -> Result<u64, &'static str> {
    let rules = Rules { fields: FIELDS, plain_bytes: 0, writable_buffers: writable, ..generic("buffer") };
    let text = format!("r6 = r1\nr2 = *(u64 *)(r6 + 0)\nr3 = *(u64 *)(r6 + 8)\nr0 = 0\n{text}\nout: exit");
    let object = assemble(&text).expect("it assembles").object;
    let result = check(&object, 0, &rules, Options::default(), &mut Recorder::default());
    result.map(|(_, facts)| facts.worst_cost).map_err(|rejection| rejection.id())
}

#[track_caller]
fn accepted(text: &str) -> u64 {
    judged(text, false).unwrap_or_else(|id| panic!("{id}"))
}

#[track_caller]
fn refused(text: &str) -> &'static str {
    judged(text, false).expect_err("it is refused")
}

const NUMBERS: &str = "r4 = *(u64 *)(r6 + 16)\nr4 &= 15";

#[test]
fn what_lies_before_the_end_is_read() {
    for compare in ["if r4 > r3 goto out", "if r3 < r4 goto out"] {
        accepted(&format!("r4 = r2\nr4 += 8\n{compare}\nr0 = *(u64 *)(r2 + 0)"));
        accepted(&format!("r4 = r2\nr4 += 8\n{compare}\nr0 = *(u8 *)(r4 - 1)"));
        assert_eq!(refused(&format!("r4 = r2\nr4 += 8\n{compare}\nr0 = *(u64 *)(r2 + 1)")), "behind-end");
        assert_eq!(refused(&format!("r4 = r2\nr4 += 7\n{compare}\nr0 = *(u64 *)(r2 + 0)")), "behind-end");
        assert_eq!(refused(&format!("r4 = r2\nr4 += 8\n{compare}\nr0 = *(u8 *)(r4 + 0)")), "behind-end");
        assert_eq!(refused(&format!("r4 = r2\nr4 += 8\n{compare}\nr0 = *(u8 *)(r2 - 1)")), "behind-end");
    }
    // Not behind the end: one byte more is there.
    accepted("r4 = r2\nr4 += 7\nif r4 >= r3 goto out\nr0 = *(u64 *)(r2 + 0)");
    assert_eq!(refused("r4 = r2\nr4 += 6\nif r4 >= r3 goto out\nr0 = *(u64 *)(r2 + 0)"), "behind-end");
    assert_eq!(refused("r0 = *(u8 *)(r2 + 0)"), "behind-end");
}

#[test]
fn what_was_compared_moves_with_its_pointer() {
    let compared = "r4 = r2\nr4 += 8\nif r4 > r3 goto out";
    accepted(&format!("{compared}\nr2 += 4\nr0 = *(u32 *)(r2 + 0)"));
    assert_eq!(refused(&format!("{compared}\nr2 += 4\nr0 = *(u64 *)(r2 + 0)")), "behind-end");
    accepted(&format!("{compared}\nr4 -= 8\nr0 = *(u64 *)(r4 + 0)"));
    assert_eq!(refused(&format!("{compared}\nr4 -= 8\nr0 = *(u64 *)(r4 + 1)")), "behind-end");
}

#[test]
fn what_one_way_compared_another_did_not() {
    let text = |bytes: u32| {
        format!(
            "r4 = *(u64 *)(r6 + 16)\nr5 = r2\nif r4 == 0 goto other\nr5 += 8\nif r5 > r3 goto out\ngoto meet\n\
             other: r5 += {bytes}\nif r5 > r3 goto out\nmeet: r5 = 0\nr4 = 0\nr0 = *(u64 *)(r2 + 0)"
        )
    };
    accepted(&text(8));
    assert_eq!(refused(&text(7)), "behind-end");
}

#[test]
fn each_comparison_proves_what_it_says() {
    // One byte more is there where a pointer is below the end, not where it is at the end.
    for below in ["if r4 < r3 goto more", "if r3 > r4 goto more"] {
        accepted(&format!("r4 = r2\nr4 += 7\n{below}\nexit\nmore: r0 = *(u64 *)(r2 + 0)"));
    }
    for not_below in ["if r4 >= r3 goto out", "if r3 <= r4 goto out"] {
        accepted(&format!("r4 = r2\nr4 += 7\n{not_below}\nr0 = *(u64 *)(r2 + 0)"));
    }
    for at_most in ["if r4 <= r3 goto more", "if r3 >= r4 goto more", "if r4 == r3 goto more"] {
        accepted(&format!("r4 = r2\nr4 += 8\n{at_most}\nexit\nmore: r0 = *(u64 *)(r2 + 0)"));
        assert_eq!(refused(&format!("r4 = r2\nr4 += 7\n{at_most}\nexit\nmore: r0 = *(u64 *)(r2 + 0)")), "behind-end");
        assert_eq!(
            refused(&format!("r4 = r2\nr4 += 8\n{at_most}\nr0 = *(u8 *)(r2 + 0)\nexit\nmore: r0 = 0")),
            "behind-end"
        );
    }
    accepted("r4 = r2\nr4 += 8\nif r4 != r3 goto out\nr0 = *(u64 *)(r2 + 0)");
    assert_eq!(refused("r4 = r2\nr4 += 8\nif r4 != r3 goto more\nexit\nmore: r0 = *(u8 *)(r2 + 0)"), "behind-end");
}

/// Trials of loops go where no pointer may be.
#[test]
fn what_is_far_from_the_buffer_is_refused() {
    for far in ["0x8000000000000000", "0x7fffffffffffffff"] {
        let text = format!(
            "r7 = 0\nagain: if r7 < 3 goto skip\nr4 = r2\nr5 = {far} ll\nr4 += r5\nif r4 > r3 goto skip\nr0 = *(u8 *)(r2 + 0)\n\
             skip: r7 += 1\nif r7 < 100 goto again"
        );
        assert_eq!(refused(&text), "pointer-offset");
    }
}

#[test]
fn the_other_side_of_the_comparison_proves_nothing() {
    assert_eq!(refused("r4 = r2\nr4 += 8\nif r4 > r3 goto more\nexit\nmore: r0 = *(u8 *)(r2 + 0)"), "behind-end");
    accepted("r4 = r2\nr4 += 8\nif r4 <= r3 goto more\nexit\nmore: r0 = *(u64 *)(r2 + 0)");
    accepted("if r2 == r3 goto out\nexit");
}

#[test]
fn offsets_that_vary_are_bounded_by_the_comparison() {
    accepted(&format!("{NUMBERS}\nr2 += r4\nr5 = r2\nr5 += 4\nif r5 > r3 goto out\nr0 = *(u32 *)(r2 + 0)"));
    assert_eq!(
        refused(&format!("r5 = r2\nr5 += 4\nif r5 > r3 goto out\n{NUMBERS}\nr2 += r4\nr0 = *(u32 *)(r2 + 0)")),
        "behind-end"
    );
    // A copy that is compared says nothing of another number.
    let other = "r5 = *(u64 *)(r6 + 24)\nr5 &= 15\nr7 = r2\nr7 += r5\nr2 += r4\nr7 += 4\nif r7 > r3 goto out";
    assert_eq!(refused(&format!("{NUMBERS}\n{other}\nr0 = *(u8 *)(r2 + 0)")), "behind-end");
    assert_eq!(refused("r4 = *(u64 *)(r6 + 16)\nr2 += r4"), "pointer-offset");
}

#[test]
fn the_buffer_is_walked_to_its_end() {
    let walk = "loop: r4 = r2\nr4 += 8\nif r4 > r3 goto out\nr5 = *(u64 *)(r2 + 0)\nr0 += r5\nr2 = r4\ngoto loop";
    let cost = accepted(walk);
    assert!(cost >= 7 * 0xffff / 8, "{cost}: a buffer has up to 64 KiB");
    assert_eq!(refused(&walk.replace("r2 + 0", "r2 + 1")), "behind-end");
    let records = format!(
        "{NUMBERS}\nr7 = 0\nloop: r7 += 1\nif r7 > 20 goto out\nr5 = r2\nr5 += 2\nif r5 > r3 goto out\nr4 = *(u8 *)(r2 + 0)\nr2 += r4\nr2 += 1\ngoto loop"
    );
    accepted(&records);
    assert_eq!(refused(&records.replace("r5 += 2\n", "")), "behind-end");
}

#[test]
fn writing_needs_a_buffer_that_may_be_written() {
    let text = "r4 = r2\nr4 += 8\nif r4 > r3 goto out\n*(u64 *)(r2 + 0) = 7";
    assert_eq!(judged(text, false), Err("read-only"));
    judged(text, true).expect("it may be written");
    let leak = "r4 = r2\nr4 += 8\nif r4 > r3 goto out\n*(u64 *)(r2 + 0) = r6";
    assert_eq!(judged(leak, true), Err("pointer-leak"));
}

#[test]
fn the_end_is_only_compared() {
    assert_eq!(refused("r0 = *(u8 *)(r3 - 1)"), "not-memory");
    assert_eq!(refused("r0 = r3"), "pointer-leak");
    assert_eq!(refused("r3 += 8"), "pointer-arithmetic");
    assert_eq!(refused("r3 -= r2"), "pointer-arithmetic");
    assert_eq!(refused("if r3 > 5 goto out\nexit"), "pointer-comparison");
    assert_eq!(refused("if w2 > w3 goto out\nexit"), "pointer-comparison");
    assert_eq!(refused("if w3 > w2 goto out\nexit"), "pointer-comparison");
    assert_eq!(refused("if r10 > r3 goto out\nexit"), "pointer-comparison");
    assert_eq!(refused("if r3 > r10 goto out\nexit"), "pointer-comparison");
    assert_eq!(refused("if r3 == 0 goto out\nexit"), "pointer-comparison");
    assert_eq!(refused("r2 = *(u32 *)(r6 + 0)"), "context-field");
}
