//! Numbers for generators: a seed gives the same ones each time.

use super::search::CONTEXT;
use crate::vm::Noise;

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.word() % limit.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Small numbers, numbers at which arithmetic goes wrong, any numbers.
    pub fn interesting(&mut self) -> u64 {
        let near = (self.word() % 5).wrapping_sub(2);
        match self.below(8) {
            0 => near,
            1 => (1u64 << self.below(64)).wrapping_add(near),
            2 => (u64::MAX << self.below(64)).wrapping_add(near),
            3 => u64::from(self.word() as u32),
            4 => self.word() >> self.below(64),
            5 => self.word(),
            _ => self.word() % 256,
        }
    }

    /// A context of the load hook.
    pub fn context(&mut self) -> [u64; CONTEXT / 8] {
        let mut context = [0; CONTEXT / 8];
        if !self.once_in(8) {
            context.fill_with(|| self.interesting());
        }
        context
    }

    pub fn immediate(&mut self) -> i32 {
        match self.below(4) {
            0 => self.interesting() as i32,
            1 => (self.word() % 16) as i32 - 8,
            _ => (self.word() % 256) as i32,
        }
    }
}

impl Noise for Random {
    fn next(&mut self) -> u64 {
        self.interesting()
    }
}
