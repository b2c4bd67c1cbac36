//! The facade: a drop-in for SeaORM's `DatabaseConnection`.

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering},
};

use sea_orm::{AccessMode, IsolationLevel, Statement, TransactionOptions};

use super::{
    database::Builder,
    lent::{self, Lent},
    marks::WriteEffect,
    operation::{ReadRoute, RetryableStatement},
    read::ReadConn,
    record::RouteLog,
    session::{self, HandleSession},
    shared::{Context, SessionOptions, Shared},
    surface::{self, Route, Routed, implement_seaorm_traits},
    write::WriteConn,
};
use crate::{
    Error,
    config::{Consistency, NodeConfig, weight},
    driver::Credentials,
    monitor::{MembershipChange, SwapOptions, SwapReport},
    routing::{Intent, ReadPlan, RouteDecision, StatementClass, TriedNodes},
    topology::{Lane, Topology},
};

/// A connection to one primary and any number of replicas that can be used like SeaORM's own.
///
/// `&db` is a SeaORM connection: each statement is routed by what it is. [`read`](Self::read) and
/// [`write`](Self::write) choose by hand. A plain handle sees every write that the process had acknowledged, through whatever
/// handle of the connection; an [explicit session](Self::session) sees what it wrote and read. Clones are handles of the same
/// connection, and the monitor ends with the last one.
///
/// # Example
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use entity::customer;
/// use sea_orm::{EntityTrait, QueryFilter};
/// use sea_orm_resolver::DatabaseConnection;
///
/// let db = DatabaseConnection::builder()
///     .primary("postgres://shop:secret@db-1/shop")
///     .replica("postgres://shop:secret@db-2/shop")
///     .connect()
///     .await?;
/// let of_london = customer::Entity::find().filter(customer::COLUMN.city.eq("London")).all(&db).await?;
/// # let _ = of_london;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct DatabaseConnection {
    shared: Arc<Shared>,
    options: SessionOptions,
    lent: Lent,
}

impl DatabaseConnection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let options =
            SessionOptions { session: HandleSession::Implicit, consistency: shared.settings().consistency, log: None };
        Self { shared, options, lent: Lent::default() }
    }

    /// Starts a configuration in code; end it with [`Builder::connect`]. [`Builder`] has an example.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A connection for reads: one node, drawn by the primary read share and the policy, and kept
    /// for the life of the value. Takes no connection from a pool until a statement runs.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// # use entity::{customer, order};
    /// # use sea_orm::{EntityTrait, LoaderTrait};
    /// let read = db.read(); // one state of the database, never an older one
    /// let orders = order::Entity::find().all(&read).await?;
    /// let customers = orders.load_one(customer::Entity, &read).await?;
    /// # let _ = customers;
    /// # Ok(()) }
    /// ```
    pub fn read(&self) -> ReadConn {
        ReadConn::draw(Arc::clone(&self.shared), &self.context())
    }

    /// A connection whose every statement goes to the primary.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// # use entity::order;
    /// # use sea_orm::EntityTrait;
    /// let newest = order::Entity::find_by_id(7).one(&db.write()).await?;
    /// # let _ = newest;
    /// # Ok(()) }
    /// ```
    pub fn write(&self) -> WriteConn {
        WriteConn::new(Arc::clone(&self.shared), &self.context())
    }

    /// An explicit session (a request, a job). The handle is the session, and its clones share the session in
    /// whatever task they are used. The session draws its node once and keeps to that node while the node has the
    /// session's writes. A read of the session never sees an older state of the database than the session has read
    /// before.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// # use entity::order;
    /// # use sea_orm::EntityTrait;
    /// let session = db.session();
    /// order::Entity::delete_by_id(7).exec(&session).await?;
    /// let task = session.clone();
    /// tokio::spawn(async move {
    ///     let deleted = order::Entity::find_by_id(7).one(&task).await; // Ok(None), from a replica that has the write
    ///     # let _ = deleted;
    /// });
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn session(&self) -> Self {
        self.with_session(HandleSession::Explicit(Arc::default()))
    }

    /// Runs a future so that plain handles of this connection inside it belong to `session`: for a middleware.
    /// A handle that is no explicit session is given one for the future's life. A task that the future spawns is outside.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn handle(db: &sea_orm_resolver::DatabaseConnection) {}
    /// let session = db.session();
    /// db.scope(&session, handle(db)).await; // `handle` uses plain `db`
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    /// That of the future.
    pub async fn scope<F: Future>(&self, session: &Self, future: F) -> F::Output {
        let entered = match &session.options.session {
            HandleSession::Explicit(session) => Arc::clone(session),
            HandleSession::Implicit => Arc::default(),
        };
        session::scope(self.shared.id, entered, future).await
    }

    /// The same session with another consistency.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// # use entity::product;
    /// # use sea_orm::EntityTrait;
    /// use sea_orm_resolver::Consistency;
    ///
    /// let any_age = db.with_consistency(Consistency::Eventual);
    /// let catalogue = product::Entity::find().all(&any_age).await?;
    /// # let _ = catalogue;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_consistency(&self, consistency: Consistency) -> Self {
        let options = SessionOptions { consistency, ..self.options.clone() };
        Self { shared: Arc::clone(&self.shared), options, lent: Lent::default() }
    }

    /// The consistency of this handle.
    pub fn consistency(&self) -> Consistency {
        self.options.consistency
    }

    /// The same session, with every decision about its operations written into `log`. Read and write connections
    /// made from this handle write into the same log. A recorded decision costs about a microsecond more.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: sea_orm_resolver::DatabaseConnection) -> Result<(), sea_orm::DbErr> {
    /// # use sea_orm::ConnectionTrait;
    /// let log = sea_orm_resolver::RouteLog::new();
    /// db.recorded(&log).execute_unprepared("SELECT 1").await?;
    /// println!("{}", log.last().expect("one decision"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn recorded(&self, log: &RouteLog) -> Self {
        let options = SessionOptions { log: Some(log.clone()), ..self.options.clone() };
        Self { shared: Arc::clone(&self.shared), options, lent: Lent::default() }
    }

    /// The node that would run a statement for this handle now, and the reason. Runs nothing, draws nothing and
    /// takes no lease; where a draw would decide, the likeliest node is named.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// use sea_orm::{DbBackend, Statement};
    ///
    /// let statement = Statement::from_string(DbBackend::Postgres, "SELECT * FROM orders FOR UPDATE");
    /// println!("{}", db.explain(&statement)); // the primary, because of the locking clause
    /// # Ok(()) }
    /// ```
    pub fn explain(&self, statement: &Statement) -> RouteDecision {
        let shared = &self.shared;
        let context = self.context();
        let class = shared.router().preview(&statement.sql, || shared.now());
        let topology = shared.cell().load();
        let decision = match self.route(&context, &class) {
            Ok(Route::Read(route)) => {
                let now = shared.now();
                let affinity = route.affinity.map(|affinity| affinity.state()).unwrap_or_default();
                let request = shared.request(
                    shared.requirement_but_for_read_backs(&context),
                    TriedNodes::default(),
                    route,
                    &affinity,
                );
                let mut plan = ReadPlan::of(&topology, &request, now);
                RouteDecision::of_plan(&topology, &mut plan, shared.policy.as_ref(), Some(class), now)
            }
            _ => RouteDecision::of_write(&topology, Some(class)),
        };
        decision.about(&statement.sql, shared.router().shown(&statement.sql))
    }

    /// SeaORM's own handle of the primary's read-write pool, for code that takes one by name. It stays the handle of the
    /// node that is the primary now.
    ///
    /// Writes through the handle raise the floor as far as SeaORM's metric callback tells of them: each statement but those of
    /// `execute_unprepared`, and once more when the connections then in use have come back (the callback tells of no COMMIT).
    /// Raw sqlx on the pool tells of nothing.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// async fn of_a_library(db: &sea_orm::DatabaseConnection) {}
    ///
    /// of_a_library(&db.primary()).await;
    /// # Ok(()) }
    /// ```
    ///
    /// Migrations and schema sync take `&db` as it is, and access control has the methods of SeaORM;
    /// [`drop_in`](crate::drop_in) shows them.
    pub fn primary(&self) -> sea_orm::DatabaseConnection {
        let primary = self.shared.cell().load().primary.node.driver(Lane::Write);
        lent::lent(&self.shared, &self.options.session, primary.seaorm())
    }

    /// The beliefs of this process about the nodes now. `Display` prints a table; [`Topology`] has an example.
    pub fn topology(&self) -> Arc<Topology> {
        self.shared.topology()
    }

    /// How many reads the primary ran after a server had refused them, since the connection was opened: reads that
    /// write in a way their text does not show, and on PostgreSQL reads of unlogged tables. Each shape of statement
    /// is tried again after ten minutes, so a number that grows faster means many shapes: send them to the primary
    /// by a rule ([`StatementRule`](crate::StatementRule)) or by `db.write()`.
    ///
    /// # Example
    /// ```
    /// # let db = sea_orm_resolver::DatabaseConnection::default();
    /// assert_eq!(db.reads_rerun_on_primary(), 0);
    /// ```
    pub fn reads_rerun_on_primary(&self) -> u64 {
        self.shared.rerun_on_primary.load(Ordering::Relaxed)
    }

    /// Makes `nodes` the replicas, atomically. New nodes are connected and have to answer first, equal nodes keep
    /// their pools, and removed nodes finish their running operations and are closed. No operation fails because of
    /// the swap.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// let report = db.swap_replicas(["postgres://shop:secret@db-2/shop", "postgres://shop:secret@db-4/shop"]).await?;
    /// println!("added {:?}, kept {:?}, removed {:?}", report.added, report.kept, report.removed);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A node that cannot work or does not answer within the connect time-out (2 s); then nothing
    /// has changed.
    ///
    /// # Cancel safety
    /// Dropping the future before it is ready leaves the old set.
    pub async fn swap_replicas<I>(&self, nodes: I) -> Result<SwapReport, Error>
    where
        I: IntoIterator,
        I::Item: Into<NodeConfig>,
    {
        self.swap_members(MembershipChange::default().replicas(nodes)).await
    }

    /// Adds a replica that has answered.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// db.add_replica("postgres://shop:secret@db-4/shop").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`swap_replicas`](Self::swap_replicas).
    ///
    /// # Cancel safety
    /// As [`swap_replicas`](Self::swap_replicas).
    pub async fn add_replica(&self, node: impl Into<NodeConfig>) -> Result<SwapReport, Error> {
        self.shared.monitor.add_replica(node.into()).await
    }

    /// Removes a replica and waits until its running operations have ended (at most the drain time-out, 30 s).
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// db.remove_replica("db-4:5432").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// No replica has this name; or operations still run after the drain time-out: those operations go on.
    ///
    /// # Cancel safety
    /// The replica leaves when it is this change's turn (another change may be connecting nodes); from
    /// then on draining goes on without the future.
    pub async fn remove_replica(&self, name: impl AsRef<str>) -> Result<(), Error> {
        self.shared.monitor.remove_replica(name.as_ref()).await
    }

    /// Makes another node the primary, as [`swap_replicas`](Self::swap_replicas) does for
    /// replicas. A replica with the same name leaves the replicas; one whose configuration is equal keeps its pools
    /// and changes its seat. The former primary leaves; [`swap_members`](Self::swap_members) can keep it as a replica.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// db.swap_primary("postgres://shop:secret@db-2/shop").await?; // after db-2 was promoted
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The node does not answer, or says that it is a replica; or the node is known to lack data that this process
    /// may have written or read, or belongs to another cluster ([`swap_primary_with`](Self::swap_primary_with)
    /// accepts both). Then nothing has changed.
    ///
    /// # Cancel safety
    /// As [`swap_replicas`](Self::swap_replicas).
    pub async fn swap_primary(&self, node: impl Into<NodeConfig>) -> Result<SwapReport, Error> {
        self.swap_primary_with(node, SwapOptions::default()).await
    }

    /// As [`swap_primary`](Self::swap_primary), with the conditions that the caller accepts.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// use sea_orm_resolver::SwapOptions;
    ///
    /// let options = SwapOptions { accept_lost_writes: true, ..SwapOptions::default() };
    /// db.swap_primary_with("postgres://shop:secret@db-2/shop", options).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`swap_primary`](Self::swap_primary), except for the accepted conditions.
    ///
    /// # Cancel safety
    /// As [`swap_replicas`](Self::swap_replicas).
    pub async fn swap_primary_with(
        &self,
        node: impl Into<NodeConfig>,
        options: SwapOptions,
    ) -> Result<SwapReport, Error> {
        self.swap_members(MembershipChange::default().primary(node).accepting(options)).await
    }

    /// Changes the primary and the replicas in one publication; see [`MembershipChange`] for an example.
    ///
    /// # Errors
    /// As [`swap_replicas`](Self::swap_replicas) and [`swap_primary`](Self::swap_primary); then nothing has changed. Of
    /// a [lenient](MembershipChange::lenient) change only the primary has to answer.
    ///
    /// # Cancel safety
    /// Dropping the future before it is ready leaves the old members.
    pub async fn swap_members(&self, change: MembershipChange) -> Result<SwapReport, Error> {
        self.shared.monitor.swap_members(change).await
    }

    /// Changes the primary's share of the reads (0 to 1) for the draws to come.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// db.set_primary_read_share(0.0)?; // the primary serves writes, and reads that no replica is fresh enough for
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A value outside of 0 to 1.
    pub fn set_primary_read_share(&self, share: f64) -> Result<(), Error> {
        self.shared.monitor.set_primary_read_share(share)
    }

    /// Changes how much of its tier's reads a member takes.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// db.set_weight("db-2", 3)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// No member has this name, or the weight is 0.
    pub fn set_weight(&self, name: impl AsRef<str>, value: u32) -> Result<(), Error> {
        self.shared.monitor.set_weight(name.as_ref(), weight("weight", value)?)
    }

    /// Gives a member other credentials for its next connections: of both pools, the probes and SeaORM's own handles. Open
    /// connections go on. The server is not asked; a part that the credentials lack is that of the URL.
    ///
    /// The credentials stay with the node over changes of the members that keep the node. On a node with a hook or a file
    /// ([`NodeConfig::credentials`]) they hold until they expire or the server refuses a login; then the hook is asked again.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// use sea_orm_resolver::Credentials;
    ///
    /// db.set_credentials("db-2", Credentials::new("shop", "another secret"))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// No member has this name; the connection is closed; the member is a SQLite file, a mock, or a connection that was given
    /// open, whose pool has its own login.
    pub fn set_credentials(&self, name: impl AsRef<str>, credentials: Credentials) -> Result<(), Error> {
        self.shared.monitor.set_credentials(name.as_ref(), credentials)
    }

    /// Keeps a replica out of rotation until [`resume`](Self::resume), and waits until its running operations have
    /// ended (at most the drain time-out, 30 s).
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// db.drain("db-2").await?;
    /// // …maintenance of db-2…
    /// db.resume("db-2")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// No replica has this name; or operations still run after the drain time-out.
    ///
    /// # Cancel safety
    /// The replica is out as soon as the future was polled.
    pub async fn drain(&self, name: impl AsRef<str>) -> Result<(), Error> {
        self.shared.monitor.drain(name.as_ref()).await
    }

    /// Puts a drained replica back into rotation; [`drain`](Self::drain) has an example.
    ///
    /// # Errors
    /// No member has this name.
    pub fn resume(&self, name: impl AsRef<str>) -> Result<(), Error> {
        self.shared.monitor.resume(name.as_ref())
    }

    /// The same explicit session, which from now on also sees every write that this process has acknowledged so far.
    #[cfg(feature = "tower")]
    #[must_use]
    pub(super) fn joining_process(self) -> Self {
        if let HandleSession::Explicit(session) = &self.options.session {
            session.join(self.shared.process_floor.get());
        }
        self
    }

    /// The same connection with another session.
    pub(super) fn with_session(&self, session: HandleSession) -> Self {
        let options = SessionOptions { session, ..self.options.clone() };
        Self { shared: Arc::clone(&self.shared), options, lent: Lent::default() }
    }

    /// The context of an operation that begins now.
    pub(super) fn own_context(&self) -> Context {
        self.options.context(self.shared.id)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// SeaORM's handle of the primary for as long as this handle lives.
    pub(super) fn lend(&self) -> &sea_orm::DatabaseConnection {
        self.lent.primary(&self.shared, &self.options.session)
    }
}

impl Routed for DatabaseConnection {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn context(&self) -> Context {
        self.options.context(self.shared.id)
    }

    fn route<'a>(&'a self, context: &'a Context, class: &StatementClass) -> Result<Route<'a>, Error> {
        Ok(match class.intent {
            Intent::Read => Route::Read(ReadRoute { affinity: context.session.affinity(), ..ReadRoute::anywhere() }),
            Intent::Write if self.shared.backend.support_returning() => Route::Primary(WriteEffect::Written),
            Intent::Write => Route::Primary(WriteEffect::WrittenWithoutReturning),
        })
    }

    fn route_transaction<'a>(
        &'a self,
        context: &'a Context,
        options: &mut TransactionOptions,
    ) -> Result<Route<'a>, Error> {
        if options.access_mode != Some(AccessMode::ReadOnly) {
            return Ok(Route::Primary(WriteEffect::Written));
        }
        if options.isolation_level == Some(IsolationLevel::Serializable) {
            // No standby can run the statement, and the primary runs it as SeaORM alone would.
            return Ok(Route::Primary(WriteEffect::Nothing));
        }
        Ok(Route::Read(ReadRoute { affinity: context.session.affinity(), ..ReadRoute::anywhere() }))
    }
}

implement_seaorm_traits!(DatabaseConnection);

impl fmt::Debug for DatabaseConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConnection")
            .field("topology", self.shared.cell())
            .field("consistency", &self.options.consistency)
            .finish_non_exhaustive()
    }
}
