//! The spec files, case by case.

use std::collections::BTreeSet;

use crate::support;

use sea_orm_resolver::{Intent, classify};

#[test]
fn every_statement_of_the_spec_is_what_the_spec_says() {
    let (mut wrong, cases) = (Vec::new(), support::cases());
    for case in &cases {
        let seen = classify(&case.sql, case.backend);
        let intent = (seen.intent == Intent::Read) == case.read;
        let reason = case.reason == seen.reason.kind();
        let text = case.text.is_none() || case.text.as_deref() == seen.reason.text(&case.sql);
        if !(intent && reason && text) {
            wrong.push(format!(
                "{}: {}: {:?} {:?}\n    is {:?} {:?}, must be {} {:?} {:?} ({})",
                case.file,
                case.group,
                case.backend,
                case.sql,
                seen.intent,
                seen.reason,
                if case.read { "read" } else { "write" },
                case.reason,
                case.text,
                case.from
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // The same text in two files, or on three databases, is one statement.
    let statements = cases.iter().map(|case| &case.sql).collect::<BTreeSet<_>>().len();
    assert!(statements >= 1_000, "only {statements} statements");
    println!("{statements} statements, {} cases", cases.len());
}
