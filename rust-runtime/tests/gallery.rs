//! Every program of extensions-c loads, and those that compute stock's decision compute it.

mod common;

use common::{GALLERY, gallery};
use duckbpf_runtime::testing::MockHost;

#[test]
fn every_program_is_accepted_as_clang_builds_it() {
    let host = MockHost::lock();
    for mcpu in ["v3", "v4"] {
        for name in GALLERY {
            let report = host.runtime.verify(&gallery(name, mcpu)).unwrap_or_else(|error| panic!("{mcpu}: {error}"));
            assert_eq!(report.name, name);
            println!("{mcpu} {report:#?}");
        }
    }
}
