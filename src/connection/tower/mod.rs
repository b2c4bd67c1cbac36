//! A tower layer: a client reads what its last request wrote, whichever process serves the next one.
//!
//! Each request is a [session](crate::DatabaseConnection::session). When it has written, its response carries a
//! [`CausalToken`] in a header and in a cookie, and the next request with it begins after those writes.
//! Handlers use the facade as plain state and need to know nothing of the layer:
//!
//! ```no_run
//! use axum::{Router, extract::State, http::StatusCode, routing::get};
//! use entity::customer;
//! use sea_orm::{EntityTrait, PaginatorTrait};
//! use sea_orm_resolver::{Database, DatabaseConnection, tower::CausalLayer};
//!
//! async fn customers(State(db): State<DatabaseConnection>) -> Result<String, StatusCode> {
//!     // The text of an error may name hosts: it is for the log, and not for clients.
//!     let count = customer::Entity::find().count(&db).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
//!     Ok(format!("{count} customers"))
//! }
//!
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let db = Database::connect("postgres://shop:secret@db-1/shop").await?;
//! let app: Router = Router::new()
//!     .route("/customers", get(customers))
//!     .layer(CausalLayer::new(&db))
//!     .with_state(db);
//! # Ok(()) }
//! ```
//!
//! # What travels
//!
//! * A token comes in the header `x-causal-token`, in the cookie `causal_token`, or in both; several are merged.
//!   What is no token is ignored, so that no request fails because of it; an event at `DEBUG` says so. Of a request at
//!   most eight different texts are read, of 12 KiB together, in the first 64 KiB of its token headers and cookies; see [below](#hostile-clients).
//! * A request without a valid token begins at the process's floor of that moment.
//!   [`join_process(true)`](CausalLayer::join_process) gives that to requests with a token, too.
//! * A request that wrote nothing sets nothing and asks the primary nothing. One that wrote waits, before the head
//!   of its response goes out, until the primary was asked for its position: one question serves all requests that wait, and a request
//!   waits at most the selection time-out of reads (1 s).
//!   A write whose outcome is unknown counts, and so does a transaction that was rolled back.
//! * When the primary does not say where it is, the response goes out unharmed, with a token that asks for the
//!   primary: the client's older one would let it miss what it has just written. A `WARN` says so.
//! * A token that is of no use here (of another cluster, of a history that a failover cut off, or one that asks
//!   for the primary) makes its request read from the primary. The response then carries a fresh one, although
//!   nothing was written: what the primary has now, is what the client must not fall behind. Such responses wait for
//!   one question, which is asked at most ten times a second.
//! * A token beyond everything that the primary can have reached is as none. A token that is ahead of what this process knows
//!   makes its request read from the primary until the primary was asked, once: a token that the primary does not show even then stands for
//!   what the primary had.
//! * What a request *reads* is not carried: of two requests that wrote nothing, the second may see an older state.
//!
//! # Where to put it
//!
//! Outside of every layer that turns a late or failed handler into a response (`tower_http`'s `TimeoutLayer`,
//! axum's `HandleErrorLayer`): the write that was cut short may happen yet, and only a response that passes here
//! tells the client. An error of the inner service passes as it is, and no token with it.
//!
//! * **Tasks** that a handler spawns are outside of the session: plain `db` in them sees every write of the process. Hand them
//!   [`RequestSession`], which the layer puts into the request's extensions, and they share the session; a write of theirs after the
//!   response has begun is not in its token.
//! * **Bodies** are polled after the head is ready, outside of the session: a body that reads takes
//!   [`RequestSession`] along; the writes of a body are in no token.
//! * **CORS**: a page of another origin reads the header only if `Access-Control-Expose-Headers` names it.
//! * **Shared caches** must not keep a response with a token: the token belongs to one client.
//! * **Requests of one client at the same time**: a cookie holds the token of the response that came last. A
//!   client that keeps tokens itself, out of headers, [merges](CausalToken::merge) them.
//! * **Programs that keep the header's token** drop it after a minute, as the cookie does by itself: the times in
//!   it begin anew with each request that brings it.
//! * **A plain token is not signed**. A client can make its own requests read from the primary or read old rows, and
//!   gains access to nothing; see [`CausalToken`]. It tells its reader where the primary is: the system identifier and the log position, or
//!   the GTIDs.
//!
//! # Hostile clients
//!
//! **On the open internet, seal the tokens**: `CausalLayer::seal` (feature `sealed-tokens`) makes them opaque and authentic, so that a client
//! learns nothing of the cluster and can make up nothing. A token that is not sealed is then as none. Without a seal,
//! and against texts that only look sealed, these bounds hold:
//!
//! * **Work.** At most eight different texts of one request are read, 12 KiB together (the longest token in a header is 8 KiB long, the
//!   longest cookie 4 KiB; proxies may join the headers of some requests), in the first 64 KiB of headers and cookies. Equal
//!   texts are read once, and merging takes time linear in their length. A request that brings more is served with what was
//!   read, and begins at the process's floor, too.
//! * **Questions.** Tokens ahead of what this process knows share one question to the primary. After a token that the primary did not show
//!   (made up, or of lost writes) the next such question is half a second away; the tokens that come meanwhile wait for the
//!   regular probe, on the primary. Requests that wrote nothing and need a fresh token share ten questions a second.
//! * **Log.** Each kind of event that a client can cause is said once in ten minutes, with the number of those that were not said.
//! * **Cookies of a sibling host.** Another host below the same domain can set cookies for that domain. The name
//!   `__Host-causal_token` of a [`CausalCookie`] with `secure(true)`, without `domain`, keeps them out.
//!
//! # Cancel safety
//!
//! Dropping the future of a request drops the handler's future. No token goes out then: the client knows as little
//! of the request's writes as after any answer that it did not get.

mod carry;
mod cookie;
mod form;
#[cfg(feature = "sealed-tokens")]
mod seal;
mod service;

use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use self::carry::Carriers;
#[cfg(feature = "sealed-tokens")]
pub use self::seal::{SealKey, SealKeys};
pub use self::{
    cookie::{CausalCookie, SameSite},
    service::{CausalService, RequestSession},
};
use super::facade::DatabaseConnection;
#[cfg(doc)]
use crate::CausalToken;

/// Makes each request a session of one connection; the session begins after the client's earlier writes. The
/// [module](self) describes what travels and where the layer belongs.
///
/// Cheap to clone. It holds a handle of the connection.
#[derive(Clone, Debug)]
pub struct CausalLayer {
    db: DatabaseConnection,
    carriers: Arc<Carriers>,
    joins: JoinProcess,
}

/// Whether a request sees what other requests to this process wrote, though it brings a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JoinProcess {
    Never,
    Always,
}

impl CausalLayer {
    /// Carries tokens in the header `x-causal-token` and in the cookie `causal_token`.
    #[must_use]
    pub fn new(db: &DatabaseConnection) -> Self {
        Self { db: db.clone(), carriers: Arc::default(), joins: JoinProcess::Never }
    }

    /// Carries tokens in this header. Each database of a service needs its own.
    #[must_use]
    pub fn header(self, name: HeaderName) -> Self {
        self.with(|carriers| carriers.header = Some(name))
    }

    /// Neither reads nor sets a header: for browsers, a cookie is enough.
    #[must_use]
    pub fn without_header(self) -> Self {
        self.with(|carriers| carriers.header = None)
    }

    /// Carries tokens in this cookie. Each database of a service needs its own.
    ///
    /// ```
    /// # use sea_orm_resolver::{DatabaseConnection, tower::{CausalCookie, CausalLayer}};
    /// # let db = DatabaseConnection::default();
    /// let layer = CausalLayer::new(&db).without_header().cookie(CausalCookie::default().secure(true));
    /// # let _: CausalLayer = layer;
    /// ```
    #[must_use]
    pub fn cookie(self, cookie: CausalCookie) -> Self {
        self.with(|carriers| carriers.cookie = Some(cookie))
    }

    /// Neither reads nor sets a cookie: for programs, a header is enough.
    #[must_use]
    pub fn without_cookie(self) -> Self {
        self.with(|carriers| carriers.cookie = None)
    }

    /// Whether a request that brings a token also sees every write that this process has acknowledged by then. Default:
    /// no. A request without a token always does.
    ///
    /// ```
    /// # use sea_orm_resolver::{DatabaseConnection, tower::CausalLayer};
    /// # let db = DatabaseConnection::default();
    /// let layer = CausalLayer::new(&db).join_process(true);
    /// # let _: CausalLayer = layer;
    /// ```
    #[must_use]
    pub fn join_process(self, joins: bool) -> Self {
        Self { joins: if joins { JoinProcess::Always } else { JoinProcess::Never }, ..self }
    }

    /// Seals tokens with a key: a client can neither read them nor make them up, and a token that is not sealed with one
    /// of the keys is as none. Default: not sealed.
    ///
    /// Recommended for services on the open internet. XChaCha20-Poly1305 encrypts and authenticates each token with a
    /// random nonce of 192 bits. A token that is longer than 6 000 characters is replaced by one that asks for the primary.
    ///
    /// ```
    /// # fn main() -> Result<(), sea_orm_resolver::Error> {
    /// # use sea_orm_resolver::{DatabaseConnection, tower::{CausalLayer, SealKey}};
    /// # let db = DatabaseConnection::default();
    /// # let secret = "s".repeat(64);
    /// let layer = CausalLayer::new(&db).seal(SealKey::new(secret)?);
    /// # let _: CausalLayer = layer;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "sealed-tokens")]
    #[must_use]
    pub fn seal(self, keys: impl Into<SealKeys>) -> Self {
        self.with(|carriers| carriers.form = form::Form::Sealed(keys.into()))
    }

    fn with(self, change: impl FnOnce(&mut Carriers)) -> Self {
        let mut carriers = Carriers::clone(&self.carriers);
        change(&mut carriers);
        Self { carriers: Arc::new(carriers), ..self }
    }
}

impl<S> Layer<S> for CausalLayer {
    type Service = CausalService<S>;

    fn layer(&self, inner: S) -> CausalService<S> {
        CausalService::new(inner, self.db.clone(), Arc::clone(&self.carriers), self.joins)
    }
}
