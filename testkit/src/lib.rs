//! Real PostgreSQL, MariaDB and MySQL clusters for tests and examples, and the faults to give them.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = testkit::PostgresCluster::start(2).await?; // a primary and two streaming replicas
//! cluster.primary().execute("CREATE TABLE item (id int)").await?;
//! cluster.wait_caught_up().await?;
//! assert_eq!(cluster.replica(1).query_scalar("SELECT count(*) FROM item").await?, "0");
//!
//! cluster.replica(0).freeze()?; // alive, and silent
//! cluster.primary().kill().await?;
//! cluster.promote(1).await?;
//! # Ok(()) }
//! ```
//!
//! A cluster starts in about a quarter of a second: its nodes are copies of a data folder made once
//! per server version, in memory where there is enough of it (else in the temporary folder, or in
//! `TESTKIT_DIR`). The servers are those on `PATH` or in the usual folders, or in the folders that
//! `TESTKIT_POSTGRES_BIN`, `TESTKIT_MARIADB_BIN` and `TESTKIT_MYSQL_BIN` name. They run as `nobody` when the tests run as
//! root (PostgreSQL wants the user to be in `/etc/passwd`). Nothing remains of a cluster that is dropped, nor of one whose process panics, exits or is
//! killed; templates do remain, under `testkit-templates-<uid>`. Linux only: it reads `/proc`.
//!
//! Few systems have a package of MySQL; `scripts/get-mysql` unpacks Debian's into a folder of its own. A test
//! that wants a server and finds none fails. The tests on MySQL alone can be left out: see
//! [`MySqlCluster::is_left_out`].
//!
//! A URL has the form `postgres://shop:s3cret-shop@127.0.0.1:port/shop`. Its user owns the database
//! and has ordinary rights; see [`Server::admin_url`] and [`Server::privileged_url`] for others.

mod account;
mod admin;
mod bouncer;
mod cluster;
mod discover;
mod disk;
mod identity;
mod instantly;
mod lag;
mod logins;
mod mariadb;
mod mysql;
mod node;
mod ports;
mod postgres;
mod process;
mod proxy;
mod rejoin;
mod scratch;
pub mod scripted;
mod server;
pub mod sim;
mod template;
mod wait;
mod weather;

pub use bouncer::PgBouncer;
pub use cluster::{Cluster, MariaDbCluster, MySqlCluster, PostgresCluster};
pub use disk::SmallDisk;
pub use instantly::Instantly;
pub use lag::Lag;
pub use proxy::ChaosProxy;
pub use server::Server;
