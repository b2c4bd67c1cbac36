//! The differences between the engines.

use super::session::Questions;

/// One kind of server: the questions to it, and the meaning of its error codes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    pub(crate) questions: Questions,
    /// Makes a session read-only.
    pub(crate) read_only: &'static str,
    /// The codes of "this is a write" and "not on a replica".
    pub(crate) writes: &'static [&'static str],
    /// The code of a syntax error: such a statement is wrong whatever the tables are.
    pub(crate) syntax_error: &'static str,
    /// The codes of missing privileges.
    pub(crate) not_allowed: &'static [&'static str],
    /// Asks for the contents of the tables, as rows of text.
    pub(crate) contents: &'static str,
    /// The rows of `contents` are the pieces of the question.
    pub(crate) contents_are_asked_for: bool,
    /// Runs on each node.
    pub(crate) on_every_node: &'static str,
    /// Makes the objects that the corpus names, once for every type that the columns may be meant to have.
    pub(crate) scripts: fn() -> Vec<Script>,
    /// Gives the application's user access to the objects.
    pub(crate) grants: &'static str,
}

/// One set of tables.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Creates the tables.
    pub(crate) make: String,
    /// Makes a session look for its tables among these first.
    pub(crate) enter: String,
}
