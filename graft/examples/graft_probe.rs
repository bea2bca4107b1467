//! What tests/wheel.py loads into Python: this crate, as an extension would call it from inside an official wheel's process.

fn main() {}
