//! One request: its session, and the token that its response carries away.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    super::{facade::DatabaseConnection, session::SessionRef},
    JoinProcess,
    carry::{Carriers, Taken},
};
use crate::topology::CausalToken;

/// The session of a request, in the request's extensions: for code that the handler starts and that the session
/// would otherwise not reach (a spawned task, a body that reads).
///
/// ```
/// use axum::Extension;
/// use sea_orm::{ConnectionTrait, DbErr};
/// use sea_orm_resolver::tower::RequestSession;
///
/// async fn handler(Extension(RequestSession(db)): Extension<RequestSession>) {
///     let indexed = tokio::spawn(async move {
///         db.execute_unprepared("UPDATE product SET is_indexed = TRUE").await
///     });
///     let _ = indexed.await;
/// }
/// # let _ = handler;
/// ```
#[derive(Clone, Debug)]
pub struct RequestSession(pub DatabaseConnection);

/// The service that [`CausalLayer`](super::CausalLayer) makes of an inner service.
#[derive(Clone, Debug)]
pub struct CausalService<S> {
    inner: S,
    db: DatabaseConnection,
    carriers: Arc<Carriers>,
    joins: JoinProcess,
}

impl<S> CausalService<S> {
    pub(super) fn new(inner: S, db: DatabaseConnection, carriers: Arc<Carriers>, joins: JoinProcess) -> Self {
        Self { inner, db, carriers, joins }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, C> Service<Request<B>> for CausalService<S>
where
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    C: Send,
{
    type Response = Response<C>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<C>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The ready service is taken, and its clone stays: a clone may not be ready.
        let clone = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, clone);
        let (db, carriers, joins) = (self.db.clone(), Arc::clone(&self.carriers), self.joins);
        Box::pin(async move {
            let taken = carriers.take(request.headers());
            tell(&db, &taken);
            let session = match taken.token {
                Some(token) if joins == JoinProcess::Never && !taken.is_over_limit => db.session_after(&token),
                // A token may be among those that were not read.
                Some(token) => db.session_after(&token).joining_process(),
                // The client may have written in this process before, and brings no token that says so.
                None => db.session().joining_process(),
            };
            request.extensions_mut().insert(RequestSession(session.clone()));
            // The call itself is within the scope, too: a service may begin to work when it is called.
            let mut response = db.scope(&session, async move { ready.call(request).await }).await?;
            if let Some(token) = token_after(&session).await
                && !carriers.put(&token, response.headers_mut())
            {
                let shared = session.shared();
                shared.token_costs.not_made("the operating system gives no random numbers to seal it", shared.now());
            }
            Ok(response)
        })
    }
}

/// Says, now and then, what a client sent in vain.
fn tell(db: &DatabaseConnection, taken: &Taken) {
    let (costs, now) = (&db.shared().token_costs, || db.shared().now());
    if let Some(bytes) = taken.unreadable_in_header {
        costs.unreadable_in_header(bytes, now());
    }
    if let Some(bytes) = taken.unreadable_in_cookie {
        costs.unreadable_in_cookie(bytes, now());
    }
    if taken.is_over_limit {
        costs.too_many(now());
    }
}

/// The token that the client must be given, if any.
async fn token_after(session: &DatabaseConnection) -> Option<CausalToken> {
    let SessionRef::Explicit(state) = session.own_context().session else { return None };
    let shared = session.shared();
    if !state.has_written() {
        if !state.is_for_the_primary() || shared.topology().is_single() {
            return None;
        }
        // No write stands behind the question for this token, so a client could have the primary asked without end.
        let now = shared.now();
        tokio::time::sleep(shared.token_costs.fresh_at(now).since(now)).await;
    }
    let token = session.causal_token().await.unwrap_or_else(|why| {
        shared.token_costs.not_made(why, shared.now());
        // No token at all would leave the client with a token from before its write, which any replica satisfies.
        CausalToken::for_the_primary()
    });
    Some(token)
}
