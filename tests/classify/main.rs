//! The statement classifier against its specification: the data files of `tests/spec/classify`, the
//! cases generated along the axes of routing, properties, and the count of its allocations.

mod allocations;
mod axes;
mod every_text;
mod generated;
mod properties;
mod spec;
#[cfg(feature = "sqlite")]
mod sqlite;
mod support;
