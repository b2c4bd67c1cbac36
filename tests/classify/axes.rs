//! The cases generated along the axes of `ROUTING.md`.

use crate::generated::{self, Generated};

use sea_orm_resolver::classify;

fn agree(cases: &[Generated], at_least: usize) {
    let mut wrong = Vec::new();
    for case in cases {
        let seen = classify(&case.sql, case.backend);
        if seen.intent != case.intent || case.reason.is_some_and(|reason| reason != seen.reason.kind()) {
            wrong.push(format!("{:?} {:?} is {seen:?}, not {:?}", case.backend, case.sql, case.reason));
        }
    }
    let shown = &wrong[..wrong.len().min(40)];
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), shown.join("\n"));
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    println!("{} cases", cases.len());
}

#[test]
fn a_locking_clause_is_a_write_wherever_and_however_it_is_written() {
    agree(&generated::locking_clauses(), 5_000);
}

#[test]
fn the_same_places_without_the_clause_are_reads() {
    agree(&generated::places_without_clauses(), 200);
}

#[test]
fn a_modifying_member_of_with_is_a_write() {
    agree(&generated::modifying_members(), 2_000);
}

#[test]
fn a_keyword_inside_a_literal_a_name_or_a_comment_decides_nothing() {
    agree(&generated::hidden_keywords(), 1_500);
}

#[test]
fn a_stacked_statement_is_a_read_only_if_each_is() {
    agree(&generated::stacked(), 1_000);
}

#[test]
fn very_long_texts_get_an_answer() {
    agree(&generated::long_texts(), 30);
}
