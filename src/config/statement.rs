//! The user's rules about single statements.

use serde::{Deserialize, Serialize};

/// Sends statements of one shape to a chosen route, whatever their text says.
///
/// Statements have the same shape when they differ only in their literals, parameters, white space, comments and
/// the case of their words; a list of literals counts as one. Any statement of the shape can represent the shape:
///
/// ```
/// # use sea_orm_resolver::{Config, StatementRoute, StatementRule};
/// let mut config = Config::new("postgres://shop@db-1/shop");
/// config.statements.push(StatementRule::new("SELECT * FROM daily_report WHERE day = ?", StatementRoute::Primary));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementRule {
    /// A statement of the shape.
    pub shape: String,
    /// The route of statements of the shape.
    pub route: StatementRoute,
}

impl StatementRule {
    /// A rule for statements like `shape`.
    pub fn new(shape: impl Into<String>, route: StatementRoute) -> Self {
        Self { shape: shape.into(), route }
    }
}

/// Where the configuration sends statements of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementRoute {
    /// To the primary, although the statement is a read. (`db.read()` runs it on the primary's read-only sessions.)
    Primary,
    /// Wherever a read may run, although the statement is not known to be a read. The session is read-only in the
    /// database all the same. A statement that writes or locks for certain cannot be allowed.
    Replica,
}
