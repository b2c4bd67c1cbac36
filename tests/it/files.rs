//! SQLite files as nodes.

use anyhow::Result;
use sea_orm::{ConnectionTrait, Database};
use sea_orm_resolver::{Builder, DatabaseConnection, NodeConfig};
use tempfile::TempDir;

use crate::{item, who::Who};

/// Three files without any replication; each answers with its own name.
pub(crate) struct NamedFiles(TempDir);

/// One file in WAL mode: a writer and any number of readers.
pub(crate) struct SharedFile(TempDir);

const NAMES: [&str; 3] = ["primary", "replica-0", "replica-1"];

impl NamedFiles {
    pub(crate) async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let files = Self(folder);
        for name in NAMES {
            let db = Database::connect(files.url(name)).await?;
            db.execute_unprepared("CREATE TABLE who (who TEXT)").await?;
            db.execute_unprepared(&format!("INSERT INTO who VALUES ('{name}')")).await?;
            item::create_table(&db).await?;
            db.close().await?;
        }
        Ok(files)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("sqlite://{}/{name}.db?mode=rwc", self.0.path().display())
    }

    pub(crate) fn node(&self, name: &str) -> NodeConfig {
        NodeConfig::new(self.url(name)).name(name)
    }

    pub(crate) fn builder(&self) -> Builder {
        let [primary, replicas @ ..] = NAMES.map(|name| self.node(name));
        DatabaseConnection::builder().primary(primary).replicas(replicas)
    }

    #[expect(clippy::unused_self, reason = "asked of the files, as it is asked of servers")]
    pub(crate) fn who(&self) -> Who {
        Who::by_row()
    }
}

impl SharedFile {
    pub(crate) async fn new() -> Result<Self> {
        let file = Self(tempfile::tempdir()?);
        let db = Database::connect(file.url()).await?;
        db.execute_unprepared("PRAGMA journal_mode = WAL").await?;
        item::create_table(&db).await?;
        db.close().await?;
        Ok(file)
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}/shared.db?mode=rwc", self.0.path().display())
    }

    pub(crate) fn node(&self, name: &str) -> NodeConfig {
        NodeConfig::new(self.url()).name(name)
    }

    pub(crate) fn builder(&self) -> Builder {
        let [primary, replicas @ ..] = NAMES.map(|name| self.node(name));
        DatabaseConnection::builder().primary(primary).replicas(replicas)
    }
}
