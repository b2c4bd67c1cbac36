//! The spec files, case by case.

use crate::support;

use sea_orm_resolver::{Intent, classify};

#[test]
fn every_statement_of_the_spec_is_what_the_spec_says() {
    let (mut wrong, cases) = (Vec::new(), support::cases());
    for case in &cases {
        let seen = classify(&case.sql, case.backend);
        let intent = (seen.intent == Intent::Read) == case.read;
        let reason = case.reason.as_deref().is_none_or(|reason| reason == seen.reason.kind());
        let text = case.text.is_none() || case.text.as_deref() == seen.reason.text(&case.sql);
        if !(intent && reason && text) {
            wrong.push(format!(
                "{} {:?} {:?}\n    is {:?} {:?}, must be {} {:?} {:?}",
                case.file,
                case.backend,
                case.sql,
                seen.intent,
                seen.reason,
                if case.read { "read" } else { "write" },
                case.reason,
                case.text
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} cases", cases.len());
}
