//! The node that answers, by its own answer.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sea_orm::{
    ConnectionTrait, DbBackend, QueryResult, Statement,
    sea_query::{Expr, Query, SelectStatement},
};

/// A question whose answer names the node that runs it, as a plain read that any replica may answer.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) backend: DbBackend,
    question: SelectStatement,
    names: BTreeMap<String, String>,
}

impl Who {
    /// Asks servers for their port.
    pub(crate) fn by_port(backend: DbBackend, names: BTreeMap<String, String>) -> Self {
        let port = match backend {
            DbBackend::Postgres => "CAST(inet_server_port() AS text)",
            _ => "CAST(@@global.port AS CHAR)",
        };
        let question = Query::select().expr_as(Expr::cust(port), "who").to_owned();
        Self { backend, question, names }
    }

    /// Asks files for the only row of their table `who`.
    pub(crate) fn by_row() -> Self {
        let question = Query::select().column("who").from("who").to_owned();
        Self { backend: DbBackend::Sqlite, question, names: BTreeMap::new() }
    }

    /// The question as SeaORM builds it.
    pub(crate) fn built(&self) -> SelectStatement {
        self.question.clone()
    }

    /// The question as a text.
    pub(crate) fn raw(&self) -> Statement {
        Statement::from_string(self.backend, self.backend.build(&self.question).sql)
    }

    /// The name in an answer.
    pub(crate) fn named(&self, row: &QueryResult) -> Result<String> {
        let said: String = row.try_get("", "who")?;
        Ok(self.names.get(&said).cloned().unwrap_or(said))
    }

    /// Asks by a statement that SeaORM built.
    pub(crate) async fn answers(&self, connection: &impl ConnectionTrait) -> Result<String> {
        let row = connection.query_one(&self.question).await?.context("there is a row")?;
        self.named(&row)
    }
}
