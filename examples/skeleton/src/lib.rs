//! Counts the sizes of blocks that lose their last reader, by a program that lies in this binary.

use std::collections::BTreeMap;

use duckbpf::{Options, Runtime};

include!(concat!(env!("OUT_DIR"), "/unpin_sizes.skel.rs"));
include!(concat!(env!("OUT_DIR"), "/trace_load.skel.rs"));

/// The program at work.
pub struct Sizes<'a>(unpin_sizes::Attached<'a>);

impl<'a> Sizes<'a> {
    /// Attaches it.
    pub fn watch(runtime: &'a Runtime) -> Result<Sizes<'a>, duckbpf::skeleton::AttachError> {
        unpin_sizes::open().attach(runtime, Options::default()).map(Sizes)
    }

    /// Blocks by their size, of all queries and tags together.
    pub fn by_size(&self) -> Result<BTreeMap<u64, u64>, duckbpf::maps::Error> {
        let mut sizes = BTreeMap::new();
        for (kind, blocks) in self.0.maps.sizes.entries()? {
            *sizes.entry(1 << kind.log2_size).or_default() += blocks;
        }
        Ok(sizes)
    }

    /// Detaches it.
    pub fn stop(self) -> Result<(), duckbpf::Error> {
        self.0.detach()
    }
}
