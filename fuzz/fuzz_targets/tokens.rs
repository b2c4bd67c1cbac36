//! Throws headers and cookies at the layer for web requests. `README.md` says how to run it.
#![no_main]

#[path = "../token_checks.rs"]
mod token_checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| token_checks::check(bytes));
