//! The properties that the fuzzer checks, checked on the statements of the spec, whole and broken off.

use crate::support;

#[path = "../../fuzz/checks.rs"]
mod checks;

/// A statement is broken off after each multiple of so many bytes.
const PIECE: usize = 7;

#[test]
fn the_properties_of_every_text_hold_for_the_spec() {
    for case in support::cases() {
        let sql = case.sql.as_bytes();
        checks::check(sql);
        for end in (0..sql.len()).step_by(PIECE) {
            checks::check(&sql[..end]);
        }
    }
}
