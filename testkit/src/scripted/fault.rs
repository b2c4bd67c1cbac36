//! The errors of real pools and servers, as SeaORM hands them on.

use std::{borrow::Cow, error::Error, fmt, io::ErrorKind, sync::Arc};

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr,
    sqlx::{
        self,
        error::{DatabaseError, ErrorKind as DatabaseErrorKind},
    },
};

/// The connection broke while the statement ran: perhaps executed.
pub fn reset() -> DbErr {
    DbErr::Query(io(ErrorKind::ConnectionReset))
}

/// No process listens at the address: not executed.
pub fn refused() -> DbErr {
    DbErr::Conn(io(ErrorKind::ConnectionRefused))
}

/// No session was free in time: not executed.
pub fn pool_timed_out() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)
}

/// The pool was closed: not executed.
pub fn pool_closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

/// The server answered a statement with an error of this code of PostgreSQL or SQLite.
pub fn server(code: &'static str) -> DbErr {
    let error = sqlx::Error::Database(Box::new(ServerError { code }));
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
}

/// The server answered a new connection with an error of this code: not executed.
pub fn not_connected(code: &'static str) -> DbErr {
    let error = sqlx::Error::Database(Box::new(ServerError { code }));
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))
}

fn io(kind: ErrorKind) -> RuntimeErr {
    RuntimeErr::SqlxError(Arc::new(sqlx::Error::Io(kind.into())))
}

#[derive(Debug)]
struct ServerError {
    code: &'static str,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scripted server error {}", self.code)
    }
}

impl Error for ServerError {}

impl DatabaseError for ServerError {
    fn message(&self) -> &str {
        "scripted server error"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> DatabaseErrorKind {
        DatabaseErrorKind::Other
    }
}
