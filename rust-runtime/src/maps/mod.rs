//! Maps: state that programs share with each other, and with whoever looks.

pub mod words;
