//! eBPF for DuckDB, from Rust: load, check, attach, detach and inspect programs in a DuckDB that has hookpoints.
//!
//! The hookpoints come into a DuckDB in two ways. The loadable extension (`extension/`) puts them into an official DuckDB 2.0.0
//! that is running, and offers SQL: that is what most people want, and needs no Rust. Programs that link DuckDB link an engine
//! that was built from the same patch series; feature `engine` is for them. Either way the hookpoints are a
//! [`duckbpf_host`](runtime::Runtime::host) table, on which the [`Runtime`] starts:
//!
//! ```no_run
//! use duckbpf::{Error, Options, Runtime};
//! # fn host() -> &'static duckbpf::abi::duckbpf_host { unimplemented!() }
//!
//! # fn main() -> Result<(), Error> {
//! let runtime = Runtime::start(host())?;
//! runtime.attach("target/bpf/default_unpin.bpf.o".as_ref(), Options { replace: false })?;
//! for program in runtime.programs() {
//!     println!("{}: {} calls", program.name, program.counts.calls);
//! }
//! runtime.detach("default_unpin")?;
//! # Ok(())
//! # }
//! ```
//!
//! Its maps are typed by [`maps`]; [`skeleton`] makes Rust out of an object, for build scripts, with its programs, maps and constants as
//! fields; [`compile`] runs clang with the right flags and headers.
//!
//! What a program is, what it may decide and what is checked: the book in `docs/`.

pub mod compile;
#[cfg(feature = "engine")]
pub mod engine;
pub mod maps;
pub mod skeleton;

pub use duckbpf_abi as abi;
pub use duckbpf_runtime as runtime;
pub use duckbpf_runtime::{Error, Options, Parameter, Runtime};
pub use zerocopy;
