//! Whether a hash program is fit to hash with: a test at attach, over keys as databases have them.
//!
//! Two questions. Does it tell keys apart? A function with few distinct results is refused, for no mixer can undo collisions,
//! and in DuckDB's tables they cost quadratic time. And is its output mixed in all the bits that DuckDB uses - low ones for
//! buckets, bits below 48 for partitions, the upper 16 as salt -? Only then is `hash_mixed` believed and the host's mixer left
//! out. Both are asked for each type that the program takes, on sequential, strided, negative, random and high-bit keys; the
//! second also by flipping each bit of a key.
//!
//! The test is a matter of some 60,000 keys. Its outcome depends on the program's bytes alone and is remembered by them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use duckbpf_abi as abi;
use duckbpf_abi::{duckbpf_hash_batch, duckbpf_hash_ctx};

use crate::{
    hook::Hook,
    jit::{HashBatch, Program},
};

/// Why a hash function is not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "of {keys} {pattern} keys of type {ty} it makes only {distinct} different hashes; joins and aggregations would crawl through \
     the collisions\n  hint: use all of the key (of strings longer than 16 bytes: whole), or leave the type out of hash_types"
)]
pub struct Degenerate {
    pub ty: &'static str,
    pub pattern: &'static str,
    pub keys: usize,
    pub distinct: usize,
}

const KEYS: usize = 512;
/// Keys of which each bit is flipped.
const FLIPPED: usize = 32;
/// Outcomes that are remembered.
const REMEMBERED: usize = 1024;

type Outcomes = HashMap<[u8; 32], Result<bool, Degenerate>>;

static OUTCOMES: Mutex<Option<Outcomes>> = Mutex::new(None);

/// Tests a hash program, unless its bytes were tested before. Ok: whether the host can do without its mixer.
pub fn tested(program: &Program, digest: [u8; 32]) -> Result<bool, Degenerate> {
    let (Hook::Hash, Some(batch)) = (program.hook(), program.hash_batch()) else { return Ok(false) };
    let lock = || OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().as_ref().and_then(|outcomes| outcomes.get(&digest)) {
        return known.clone();
    }
    let (types, declared_mixed) = program.declared_hash();
    let outcome = test(batch, types, declared_mixed);
    let mut outcomes = lock();
    let outcomes = outcomes.get_or_insert_default();
    if outcomes.len() >= REMEMBERED {
        outcomes.clear();
    }
    outcomes.insert(digest, outcome.clone());
    outcome
}

fn test(batch: HashBatch, types: u64, declared_mixed: bool) -> Result<bool, Degenerate> {
    let mut mixed = declared_mixed;
    let mut hashes = Vec::new();
    for kind in KINDS.iter().filter(|kind| types >> kind.number & 1 != 0) {
        for (pattern, keys) in suites(kind) {
            hash(batch, &keys, &mut hashes);
            mixed = mixed && is_even(&hashes);
            hashes.sort_unstable();
            hashes.dedup();
            // A few collisions are chance.
            if hashes.len() * 10 < keys.len() * 9 {
                let (keys, distinct) = (keys.len(), hashes.len());
                return Err(Degenerate { ty: kind.name, pattern, keys, distinct });
            }
        }
        mixed = mixed && avalanches(batch, kind);
    }
    Ok(mixed)
}

fn hash(batch: HashBatch, keys: &[duckbpf_hash_ctx], hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.resize(keys.len(), 0);
    let request = duckbpf_hash_batch {
        keys: keys.as_ptr().cast(),
        out: hashes.as_mut_ptr(),
        count: keys.len() as u64,
        layout: abi::DUCKBPF_KEYS_CTX,
        type_: keys.first().map_or(0, |key| key.type_),
        len: 0,
        reserved: 0,
    };
    // SAFETY: `count` contexts to read, and as many places to write.
    unsafe { batch(&request) };
}

/// A type of keys, as far as the test must know it.
struct Kind {
    number: u32,
    name: &'static str,
    /// Bits of `lo` that a key can have.
    bits: u32,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Signed,
    Unsigned,
    Float,
    Double,
    /// `hi` counts too.
    Wide,
    Text,
}

const fn kind(number: u32, name: &'static str, bits: u32, form: Form) -> Kind {
    Kind { number, name, bits, form }
}

static KINDS: [Kind; abi::DUCKBPF_TYPE_COUNT as usize] = [
    kind(abi::DUCKBPF_TYPE_INT8, "INT8", 8, Form::Signed),
    kind(abi::DUCKBPF_TYPE_INT16, "INT16", 16, Form::Signed),
    kind(abi::DUCKBPF_TYPE_INT32, "INT32", 32, Form::Signed),
    kind(abi::DUCKBPF_TYPE_INT64, "INT64", 64, Form::Signed),
    kind(abi::DUCKBPF_TYPE_UINT8, "UINT8", 8, Form::Unsigned),
    kind(abi::DUCKBPF_TYPE_UINT16, "UINT16", 16, Form::Unsigned),
    kind(abi::DUCKBPF_TYPE_UINT32, "UINT32", 32, Form::Unsigned),
    kind(abi::DUCKBPF_TYPE_UINT64, "UINT64", 64, Form::Unsigned),
    kind(abi::DUCKBPF_TYPE_INT128, "INT128", 64, Form::Wide),
    kind(abi::DUCKBPF_TYPE_UINT128, "UINT128", 64, Form::Wide),
    kind(abi::DUCKBPF_TYPE_FLOAT, "FLOAT", 32, Form::Float),
    kind(abi::DUCKBPF_TYPE_DOUBLE, "DOUBLE", 64, Form::Double),
    kind(abi::DUCKBPF_TYPE_INTERVAL, "INTERVAL", 64, Form::Wide),
    kind(abi::DUCKBPF_TYPE_VARCHAR, "VARCHAR", 64, Form::Text),
];

impl Kind {
    fn count(&self) -> usize {
        if self.bits == 8 { 256 } else { KEYS }
    }

    fn len(&self) -> u32 {
        match self.form {
            Form::Wide => 16,
            _ => self.bits / 8,
        }
    }

    /// A key whose `lo` comes from these bits, as the host would give it.
    fn key(&self, value: u64) -> duckbpf_hash_ctx {
        let cut = value & (u64::MAX >> (64 - self.bits));
        let shift = 64 - self.bits;
        let lo = if self.form == Form::Signed { ((cut << shift) as i64 >> shift) as u64 } else { cut };
        duckbpf_hash_ctx { lo, len: self.len(), type_: self.number, ..Default::default() }
    }

    fn keys(&self, value: impl Fn(u64) -> u64) -> Vec<duckbpf_hash_ctx> {
        (0..self.count() as u64).map(|index| self.key(value(index))).collect()
    }
}

/// Keys for each pattern; all keys of one are different.
fn suites(kind: &Kind) -> Vec<(&'static str, Vec<duckbpf_hash_ctx>)> {
    let log_count = kind.count().ilog2();
    let high = kind.bits - log_count;
    match kind.form {
        Form::Text => text_suites(kind),
        Form::Float => vec![
            ("sequential", kind.keys(|index| u64::from((index as f32).to_bits()))),
            ("fractional", kind.keys(|index| u64::from((index as f32 / 100.0).to_bits()))),
            ("random", kind.keys(|index| random(index) & 0xffff_ffff)),
        ],
        Form::Double => vec![
            ("sequential", kind.keys(|index| (index as f64).to_bits())),
            ("fractional", kind.keys(|index| (index as f64 / 100.0).to_bits())),
            ("random", kind.keys(random)),
        ],
        Form::Signed | Form::Unsigned | Form::Wide => {
            let count = kind.count() as u64;
            let mut suites = vec![
                ("sequential", kind.keys(|index| index)),
                ("high-bit", kind.keys(|index| index << high)),
                ("strided", kind.keys(|index| index << (high / 2))),
                ("random", kind.keys(|index| if high == 0 { index } else { permuted(index, kind.bits) })),
            ];
            if kind.form != Form::Unsigned {
                suites.push(("negative", kind.keys(|index| index.wrapping_sub(count / 2))));
            }
            if kind.form == Form::Wide {
                let upper = |hi: fn(u64) -> u64| {
                    let key = |index| duckbpf_hash_ctx { hi: hi(index), ..kind.key(0) };
                    (0..count).map(key).collect::<Vec<_>>()
                };
                suites.push(("upper sequential", upper(|index| index)));
                suites.push(("upper high-bit", upper(|index| index << 32)));
            }
            suites
        }
    }
}

fn text_suites(kind: &Kind) -> Vec<(&'static str, Vec<duckbpf_hash_ctx>)> {
    let make = |text: &dyn Fn(u64) -> String| {
        (0..kind.count() as u64).map(|index| text_key(kind, text(index).as_bytes())).collect::<Vec<_>>()
    };
    vec![
        ("short", make(&|index| index.to_string())),
        ("numbered", make(&|index| format!("Customer#{index:09}"))),
        ("long with a common beginning", make(&|index| format!("https://example.com/page?id={index}"))),
    ]
}

fn text_key(kind: &Kind, text: &[u8]) -> duckbpf_hash_ctx {
    let mut head = [0; 16];
    let len = text.len().min(16);
    head[..len].copy_from_slice(&text[..len]);
    let value = u128::from_le_bytes(head);
    // The host's hash of the whole string is a good one.
    let whole = text.iter().fold(text.len() as u64, |hash, &byte| random(hash ^ u64::from(byte)));
    duckbpf_hash_ctx { lo: value as u64, hi: (value >> 64) as u64, whole, len: text.len() as u32, type_: kind.number }
}

/// splitmix64.
fn random(index: u64) -> u64 {
    let mut x = index.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// A number of so many bits; different for different indices below 2^bits.
fn permuted(index: u64, bits: u32) -> u64 {
    let mask = u64::MAX >> (64 - bits);
    let mut x = index & mask;
    for _ in 0..3 {
        x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
        x ^= x >> (bits / 2);
    }
    x
}

/// Chi-square over buckets taken from each byte of the hashes: far above what chance gives is uneven.
fn is_even(hashes: &[u64]) -> bool {
    let buckets = hashes.len() / 8;
    let freedom = (buckets - 1) as f64;
    let limit = freedom + 7.0 * (2.0 * freedom).sqrt();
    let expected = hashes.len() as f64 / buckets as f64;
    (0..64).step_by(8).all(|shift| {
        let mut counts = vec![0u32; buckets];
        for hash in hashes {
            counts[hash.rotate_right(shift) as usize % buckets] += 1;
        }
        let chi: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        chi <= limit
    })
}

/// Flipping any bit of a key flips about half of the bits in each quarter of its hash.
fn avalanches(batch: HashBatch, kind: &Kind) -> bool {
    let bits = if kind.form == Form::Wide { 128 } else { kind.bits };
    let mut keys = Vec::new();
    for index in 0..FLIPPED as u64 {
        let mut key = kind.key(random(index + 1));
        if kind.form == Form::Wide {
            key.hi = random(index + 1000);
        }
        if kind.form == Form::Text {
            key = text_key(kind, &key.lo.to_le_bytes());
        }
        keys.push(key);
        for bit in 0..bits {
            let mut flipped = key;
            match kind.form {
                Form::Text => flipped = text_key(kind, &(key.lo ^ 1 << bit).to_le_bytes()),
                Form::Wide if bit >= 64 => flipped.hi ^= 1 << (bit - 64),
                _ => flipped.lo = kind.key(key.lo ^ 1 << bit).lo,
            }
            keys.push(flipped);
        }
    }
    let mut hashes = Vec::new();
    hash(batch, &keys, &mut hashes);
    let groups = hashes.chunks_exact(bits as usize + 1);
    let mut flips = vec![[0u32; 4]; bits as usize];
    for group in groups {
        for (bit, hash) in group[1..].iter().enumerate() {
            for (quarter, count) in flips[bit].iter_mut().enumerate() {
                *count += ((group[0] ^ hash) >> (16 * quarter) & 0xffff).count_ones();
            }
        }
    }
    let all = (FLIPPED * 16) as f64;
    // Nine standard deviations around one half.
    flips.iter().flatten().all(|&count| (0.3..=0.7).contains(&(f64::from(count) / all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(function: fn(&duckbpf_hash_ctx) -> u64, types: u64, mixed: bool) -> Result<bool, Degenerate> {
        use std::cell::Cell;
        thread_local!(static FUNCTION: Cell<fn(&duckbpf_hash_ctx) -> u64> = const { Cell::new(|_| 0) });
        unsafe extern "C" fn run(batch: *const duckbpf_hash_batch) {
            // SAFETY: hash() gives a valid batch of contexts.
            unsafe {
                let batch = &*batch;
                for index in 0..batch.count as usize {
                    let key = &*batch.keys.cast::<duckbpf_hash_ctx>().add(index);
                    *batch.out.add(index) = FUNCTION.get()(key);
                }
            }
        }
        FUNCTION.set(function);
        test(run, types, mixed)
    }

    const ALL: u64 = (1 << abi::DUCKBPF_TYPE_COUNT) - 1;
    const INTEGERS: u64 = 0xff;

    fn murmur(mut x: u64) -> u64 {
        for _ in 0..2 {
            x ^= x >> 32;
            x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
        x ^ x >> 32
    }

    #[test]
    fn keys_of_a_suite_are_different() {
        for kind in &KINDS {
            for (pattern, keys) in suites(kind) {
                let mut all: Vec<_> = keys.iter().map(|key| (key.lo, key.hi, key.whole)).collect();
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), keys.len(), "{} {pattern}", kind.name);
            }
        }
    }

    #[test]
    fn good_functions_are_believed_only_if_they_say_so() {
        assert_eq!(with(|key| murmur(key.lo), INTEGERS, true), Ok(true));
        assert_eq!(with(|key| murmur(key.lo), INTEGERS, false), Ok(false));
        assert_eq!(with(|key| random(key.lo ^ random(key.hi) ^ key.whole.rotate_left(1)), ALL, true), Ok(true));
    }

    #[test]
    fn unmixed_functions_need_the_mixer() {
        assert_eq!(with(|key| key.lo, INTEGERS, true), Ok(false), "identity");
        assert_eq!(with(|key| key.lo.wrapping_mul(0x9e37_79b9_7f4a_7c15), INTEGERS, true), Ok(false), "Fibonacci");
        assert_eq!(with(|key| murmur(key.lo) >> 32, INTEGERS, true), Ok(false), "no upper half");
        assert_eq!(with(|key| murmur(key.lo) << 16, INTEGERS, true), Ok(false), "no lower bits");
        assert_eq!(with(|key| murmur(key.lo) & !(0xff << 40), INTEGERS, true), Ok(false), "no partitions");
    }

    #[test]
    fn degenerate_functions_are_refused_mixed_or_not() {
        for mixed in [false, true] {
            assert_eq!(with(|_| 7, INTEGERS, mixed).unwrap_err().distinct, 1);
            assert_eq!(with(|key| murmur(key.lo & 0xff), INTEGERS, mixed).unwrap_err().ty, "INT16");
            let error = with(|key| murmur(key.lo & 0xffff_ffff), INTEGERS, mixed).unwrap_err();
            assert_eq!((error.ty, error.pattern, error.distinct), ("INT64", "high-bit", 1));
            let lower_half = with(|key| murmur(key.lo), 1 << abi::DUCKBPF_TYPE_INT128, mixed).unwrap_err();
            assert_eq!(lower_half.pattern, "upper sequential");
            let prefix = with(|key| murmur(key.lo ^ key.hi), 1 << abi::DUCKBPF_TYPE_VARCHAR, mixed).unwrap_err();
            assert!(prefix.to_string().contains("numbered keys of type VARCHAR"), "{prefix}");
            let ends = with(
                |key| murmur(key.lo ^ key.hi.rotate_left(9) ^ key.whole >> 60),
                1 << abi::DUCKBPF_TYPE_VARCHAR,
                mixed,
            );
            assert!(ends.is_err());
        }
    }
}
