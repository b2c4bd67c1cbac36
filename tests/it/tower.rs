//! The layer for web requests, called as tower calls it.

use std::{
    convert::Infallible,
    future::{Future, Ready, poll_fn, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Result;
use http::{
    HeaderMap, HeaderName, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, TransactionTrait};
use sea_orm_resolver::{
    CausalToken, DatabaseConnection,
    tower::{CausalCookie, CausalLayer, CausalService, RequestSession},
};
use testkit::scripted::{Behaviour, ScriptedNode, Step, fault};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    files::SharedFile,
    item,
    secrets::record,
    servers::{Servers, on_each_database},
};

pub(crate) const HEADER: &str = "x-causal-token";

/// A request and a response of these tests: a path and a text.
pub(crate) type Req = Request<&'static str>;
pub(crate) type Res = Response<String>;

/// A handler with the facade as plain state.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) db: DatabaseConnection,
}

impl Service<Req> for Handler {
    type Response = Res;
    type Error = anyhow::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Res>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let db = self.db.clone();
        // A service may begin to work before its future runs.
        let at_once = db.write();
        Box::pin(async move {
            let mut response = Res::default();
            *response.body_mut() = match *request.body() {
                "write" => item::new("x", 1).insert(&db).await?.id.to_string(),
                "execute" => db.execute_unprepared("UPDATE item SET amount = 1").await?.rows_affected().to_string(),
                "cut short" => {
                    let write = db.execute_unprepared("UPDATE item SET amount = 1");
                    format!("{:?}", tokio::time::timeout(Duration::from_millis(1), write).await.is_err())
                }
                "roll back" => format!("{:?}", db.begin().await?.rollback().await),
                "fail" => {
                    db.execute_unprepared("UPDATE item SET amount = 1").await?;
                    anyhow::bail!("the handler's own")
                }
                "who" => item::Entity::find().one(&db).await?.map(|item| item.name).unwrap_or_default(),
                "rest" => String::new(),
                "at once" => {
                    let write = async move { at_once.execute_unprepared("UPDATE item SET amount = 1").await };
                    tokio::spawn(write).await??.rows_affected().to_string()
                }
                "spawn" => {
                    let session = request.extensions().get::<RequestSession>().expect("the layer put it there").clone();
                    let write = async move { item::new("y", 1).insert(&session.0).await };
                    tokio::spawn(write).await??.id.to_string()
                }
                "greet" => {
                    item::new("z", 1).insert(&db).await?;
                    let headers = response.headers_mut();
                    headers.append(SET_COOKIE, "theme=dark; Path=/".parse()?);
                    headers.append(SET_COOKIE, "id=7".parse()?);
                    "hello".to_owned()
                }
                id => format!("{}", item::Entity::find_by_id(id.parse::<i32>()?).one(&db).await?.is_some()),
            };
            Ok(response)
        })
    }
}

/// A client of one process, and the tokens that it keeps.
pub(crate) struct Client {
    pub(crate) service: CausalService<Handler>,
    pub(crate) sends: HeaderMap,
}

impl Client {
    pub(crate) fn of(db: &DatabaseConnection) -> Self {
        let service = CausalLayer::new(db).layer(Handler { db: db.clone() });
        Self { service, sends: HeaderMap::new() }
    }

    pub(crate) fn sending(mut self, name: impl TryInto<HeaderName>, value: &str) -> Self {
        let name = name.try_into().ok().expect("a name");
        self.sends.append(name, value.parse().expect("a value"));
        self
    }

    pub(crate) async fn ask(&mut self, what: &'static str) -> Result<Res> {
        let mut request = Request::new(what);
        *request.headers_mut() = self.sends.clone();
        poll_fn(|context| self.service.poll_ready(context)).await?;
        self.service.call(request).await
    }

    /// The answer to a request that must set no token.
    pub(crate) async fn ask_quietly(&mut self, what: &'static str) -> Result<String> {
        let response = self.ask(what).await?;
        assert!(token_in(&response).is_none() && cookie_in(&response).is_none(), "{what} sets a token");
        Ok(response.into_body())
    }
}

pub(crate) fn token_in(response: &Res) -> Option<CausalToken> {
    response.headers().get(HEADER).map(|value| value.to_str().expect("text").parse().expect("a token"))
}

/// The cookie that a browser would send back.
pub(crate) fn cookie_in(response: &Res) -> Option<String> {
    let lines = response.headers().get_all(SET_COOKIE).into_iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()?.split(';').next());
    pairs.into_iter().find(|pair| pair.starts_with("causal_token=")).map(str::to_owned)
}

/// A request to one process writes; the next request to the other process reads the row, with only the cookie or
/// only the header passed.
async fn a_client_reads_its_writes_in_another_process(servers: Servers) -> Result<()> {
    let open = || servers.builder().primary_read_share(0.0).stick_after_write(Duration::from_secs(60));
    let (here, there) = (servers.open(open()).await?, open().connect().await?);
    servers.pause_replay().await?;
    for round in 0..10 {
        let what = ["write", "spawn", "greet"][round % 3];
        let written = Client::of(&here).ask(what).await?;
        let (cookie, token) = (cookie_in(&written).expect("a cookie"), token_in(&written).expect("a token"));
        assert_eq!(cookie, format!("causal_token={token}"));
        let id: i32 = written.body().parse().unwrap_or(i32::try_from(round)? + 1);
        let id: &'static str = id.to_string().leak();
        assert_eq!(Client::of(&there).ask_quietly(id).await?, "false", "a replica misses it: round {round}");
        assert_eq!(Client::of(&there).sending(COOKIE, &cookie).ask_quietly(id).await?, "true", "round {round}");
        let mut client = Client::of(&there).sending(HEADER, &token.to_string());
        assert_eq!(client.ask_quietly(id).await?, "true", "round {round}");
    }
    Ok(())
}

on_each_database!(a_client_reads_its_writes_in_another_process, [postgres, mariadb]);

/// A client that writes in two processes by turns sees all its writes: a new token covers the one that came with
/// the request.
#[tokio::test]
async fn a_new_token_covers_the_one_that_came() -> Result<()> {
    let servers = Servers::postgres().await?;
    let open = || servers.builder().primary_read_share(0.0);
    let processes = [servers.open(open()).await?, open().connect().await?];
    servers.pause_replay().await?;
    let mut written: Vec<&'static str> = Vec::new();
    let mut sends = HeaderMap::new();
    for round in 0..6 {
        let mut client = Client::of(&processes[round % 2]);
        client.sends = sends.clone();
        let response = client.ask("write").await?;
        sends.insert(HEADER, response.headers()[HEADER].clone());
        written.push(response.into_body().leak());
        let mut client = Client::of(&processes[(round + 1) % 2]);
        client.sends = sends.clone();
        for id in &written {
            assert_eq!(client.ask_quietly(id).await?, "true", "round {round}");
        }
    }
    Ok(())
}

/// A token of another cluster, alone or merged with one of this cluster: its request reads from the primary and is
/// given another token, so that the client leaves the primary again.
#[tokio::test]
async fn a_token_of_another_cluster_is_replaced() -> Result<()> {
    let (servers, others) = tokio::try_join!(Servers::postgres(), Servers::postgres())?;
    let (db, other) = (servers.open(servers.builder().primary_read_share(0.0)).await?, others.connect().await?);
    let ours = token_in(&Client::of(&db).ask("write").await?).expect("it wrote");
    let theirs = token_in(&Client::of(&other).ask("write").await?).expect("it wrote");
    for of_no_use in [theirs.clone(), theirs.merge(&ours)] {
        servers.resume_replay().await?;
        servers.wait_caught_up().await?;
        servers.pause_replay().await?;
        let id: &'static str = item::new("w", 1).insert(&db.primary()).await?.id.to_string().leak();
        // Also one that reads nothing: whatever the token stood for was there when it came.
        for (what, seen) in [("rest", ""), (id, "true")] {
            let response = Client::of(&db).sending(HEADER, &of_no_use.to_string()).ask(what).await?;
            assert_eq!(response.body(), seen, "the primary has it, the replicas do not");
            let fresh = token_in(&response).expect("a fresh one").to_string();
            assert_eq!(cookie_in(&response), Some(format!("causal_token={fresh}")));
            let mut client = Client::of(&db).sending(HEADER, &fresh);
            assert_eq!(client.ask_quietly(id).await?, "true", "what was there then, it must not lose");
        }
    }
    Ok(())
}

/// When the primary does not tell its position, the client is told to ask the primary, and does not keep its older
/// token.
#[tokio::test]
async fn a_client_whose_write_has_no_position_reads_from_the_primary_until_it_has_one() -> Result<()> {
    let servers = Servers::postgres().await?;
    // The write goes out at once, and not a ping before it.
    let open = || {
        let builder = servers.builder().primary_read_share(0.0).ping_after_idle(Duration::from_secs(60));
        builder.read_selection_timeout(Duration::from_millis(300))
    };
    let (here, there) = (servers.open(open()).await?, open().connect().await?);
    let before = token_in(&Client::of(&here).ask("write").await?).expect("it wrote");
    servers.pause_replay().await?;

    let (db, primary) = (here.clone(), servers.primary());
    let session = here.session_after(&before);
    let id = item::new("late", 1).insert(&session).await?.id;
    primary.freeze()?;
    // The head of a request that wrote, and then finds the primary silent.
    let response = Client::of(&db).sending(HEADER, &before.to_string()).ask("cut short").await?;
    let after = token_in(&response).expect("one that asks for the primary");
    assert_ne!(after, before);
    primary.thaw()?;

    let id: &'static str = id.to_string().leak();
    let response = Client::of(&there).sending(HEADER, &after.to_string()).ask(id).await?;
    assert_eq!(response.body(), "true", "read from the primary");
    assert!(token_in(&response).is_some_and(|fresh| fresh != after));
    Ok(())
}

#[tokio::test]
async fn the_cookies_of_the_application_stay() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().connect().await?;
    let response = Client::of(&db).ask("greet").await?;
    let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).into_iter().collect();
    assert_eq!(cookies[..2], ["theme=dark; Path=/", "id=7"]);
    assert_eq!(cookies.len(), 3);
    assert!(cookies[2].to_str()?.starts_with("causal_token=1t"), "{cookies:?}");
    Ok(())
}

#[tokio::test]
async fn names_are_configurable_and_each_carrier_can_be_switched_off() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().connect().await?;
    let headers = async |layer: CausalLayer| {
        let mut client = Client { service: layer.layer(Handler { db: db.clone() }), sends: HeaderMap::new() };
        client.ask("write").await.map(|response| response.headers().clone())
    };
    let of_cookie = headers(CausalLayer::new(&db).without_header().cookie(CausalCookie::named("after")?)).await?;
    assert_eq!(of_cookie.keys().collect::<Vec<_>>(), [SET_COOKIE]);
    assert!(of_cookie[SET_COOKIE].to_str()?.starts_with("after=1t"));
    let of_header = headers(CausalLayer::new(&db).without_cookie().header("x-after".parse()?)).await?;
    assert_eq!(of_header.keys().collect::<Vec<_>>(), ["x-after"]);
    assert!(headers(CausalLayer::new(&db).without_cookie().without_header()).await?.is_empty());
    Ok(())
}

/// A primary and a replica without positions; reads go to the replica.
struct Nodes {
    primary: Arc<ScriptedNode>,
    replica: Arc<ScriptedNode>,
}

impl Nodes {
    fn new() -> Self {
        let named = |name: &str, node: &Arc<ScriptedNode>| {
            let row = [("id", 1.into()), ("name", name.into()), ("amount", 0.into())];
            node.set_rows([row.map(|(column, value)| (column.to_owned(), value)).into_iter().collect()]);
        };
        let this = Self { primary: ScriptedNode::primary("p"), replica: ScriptedNode::replica("r") };
        named("p", &this.primary);
        named("r", &this.replica);
        this
    }

    async fn connect(&self) -> Result<DatabaseConnection> {
        let builder = DatabaseConnection::builder().primary(self.primary.config()).replica(self.replica.config());
        Ok(builder.primary_read_share(0.0).seed(7).connect().await?)
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wrote_nothing_sets_nothing() -> Result<()> {
    let nodes = Nodes::new();
    let (here, there) = (nodes.connect().await?, nodes.connect().await?);
    let token = token_in(&Client::of(&here).ask("execute").await?).expect("it wrote");
    for mut client in [Client::of(&here), Client::of(&here).sending(HEADER, "?")] {
        assert_eq!(
            client.ask_quietly("who").await?,
            "p",
            "a request without a token begins after what its process wrote"
        );
    }
    assert_eq!(Client::of(&there).ask_quietly("who").await?, "r", "another process has written nothing");
    let mut client = Client::of(&there).sending(HEADER, &token.to_string());
    assert_eq!(client.ask_quietly("who").await?, "p");
    tokio::time::advance(Duration::from_secs(1)).await;
    // The time of a token begins anew with each request: it does not say when it was made.
    assert_eq!(client.ask_quietly("who").await?, "p");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_request_is_a_session_of_its_own() -> Result<()> {
    let nodes = Nodes::new();
    let db = nodes.connect().await?;
    let mut client = Client::of(&db);
    assert!(token_in(&client.ask("execute").await?).is_some());
    let name = async |db: DatabaseConnection| item::Entity::find().one(&db).await.map(|row| row.expect("a row").name);
    assert_eq!(client.ask_quietly("who").await?, "p", "the request begins after what its process wrote");
    assert_eq!(name(db.clone()).await?, "p", "and so does a plain read");
    assert_eq!(name(db.session()).await?, "r", "a session outside of the requests");
    let mut early = Client::of(&db);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(early.ask_quietly("who").await?, "r");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn whatever_may_have_been_written_counts() -> Result<()> {
    let nodes = Nodes::new();
    let db = nodes.connect().await?;
    for what in ["execute", "roll back", "spawn", "at once"] {
        assert!(token_in(&Client::of(&db).ask(what).await?).is_some(), "{what}");
    }
    nodes.primary.on(Step::Execute, Behaviour::Never);
    let response = Client::of(&db).ask("cut short").await?;
    assert_eq!(response.body(), "true");
    let text = token_in(&response).expect("it may have written").to_string();
    let mut client = Client::of(&db).sending(COOKIE, &format!("causal_token={text}"));
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(client.ask_quietly("who").await?, "p", "it may happen yet");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_no_token_is_ignored() -> Result<()> {
    let nodes = Nodes::new();
    let db = nodes.connect().await?;
    let huge = "causal_token=".to_owned() + &"x".repeat(100_000);
    for cookie in ["", ";", "causal_token", "causal_token=", "causal_token=\"", "causal_token=1w.~~;=", &huge] {
        let mut client = Client::of(&db).sending(COOKIE, cookie).sending(HEADER, "\t1w");
        assert_eq!(client.ask_quietly("who").await?, "r");
        assert!(token_in(&client.ask("execute").await?).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_no_token_is_not_shown_in_the_log() -> Result<()> {
    let nodes = Nodes::new();
    let db = nodes.connect().await?;
    let (recorded, _guard) = record();
    for (name, value) in [(COOKIE.as_str(), "causal_token=s3cret"), (HEADER, "1w0.s3cret~0000000")] {
        Client::of(&db).sending(name, value).ask_quietly("who").await?;
        let log = recorded.take();
        let said: Vec<_> = log.lines().filter(|line| line.contains("no readable causal token")).collect();
        assert!(said.len() == 1 && said[0].starts_with("DEBUG"), "{log}");
        assert!(!log.contains("s3cret"), "{log}");
    }
    Client::of(&db).sending(COOKIE, "causal_token=").ask_quietly("who").await?;
    assert!(!recorded.take().contains("causal token"), "an empty one is none");
    Ok(())
}

/// A token that asks for the primary for good would keep its client on the primary, so the client is given another
/// one.
#[tokio::test(start_paused = true)]
async fn a_token_that_only_the_primary_satisfies_is_replaced() -> Result<()> {
    let nodes = Nodes::new();
    let db = nodes.connect().await?;
    let of_no_use: CausalToken = "1p0.0~0fsgp0n".parse()?;
    let mut client = Client::of(&db).sending(HEADER, &of_no_use.to_string());
    let response = client.ask("who").await?;
    assert_eq!(response.body(), "p");
    let fresh = token_in(&response).expect("a fresh one");
    assert_ne!(fresh, of_no_use);
    let mut client = Client::of(&db).sending(HEADER, &fresh.to_string());
    assert_eq!(client.ask_quietly("who").await?, "p", "what the first token stood for may not be on the replica yet");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_passes() -> Result<()> {
    let nodes = Nodes::new();
    let db = nodes.connect().await?;
    let error = Client::of(&db).ask("fail").await.expect_err("the handler fails");
    assert_eq!(error.to_string(), "the handler's own");
    nodes.primary.on(Step::Execute, Behaviour::Fail(fault::server("42P01")));
    assert!(Client::of(&db).ask("execute").await.is_err());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_lets_go_of_all_it_ran() -> Result<()> {
    let nodes = Nodes::new();
    let db = nodes.connect().await?;
    nodes.primary.on(Step::Execute, Behaviour::Never);
    let mut client = Client::of(&db);
    let request = client.ask("execute");
    assert!(tokio::time::timeout(Duration::from_secs(1), request).await.is_err());
    assert_eq!(db.topology().members().map(|member| member.node().in_flight()).sum::<u64>(), 0);
    assert_eq!(nodes.primary.running(), 0);
    nodes.primary.on(Step::Execute, Behaviour::Ok);
    assert!(token_in(&client.ask("execute").await?).is_some(), "and the service goes on");
    Ok(())
}

/// Counts the services that are asked whether they are ready, and those that are called.
#[derive(Debug)]
struct Turnstile {
    is_ready: bool,
    clones: Arc<AtomicUsize>,
}

impl Clone for Turnstile {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Relaxed);
        Self { is_ready: false, clones: Arc::clone(&self.clones) }
    }
}

impl Service<Request<()>> for Turnstile {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.is_ready, "a clone was called that nobody asked whether it is ready");
        self.is_ready = false;
        ready(Ok(Response::new(())))
    }
}

#[tokio::test]
async fn the_service_that_is_ready_is_the_one_that_is_called() -> Result<()> {
    let db = DatabaseConnection::default();
    let clones = Arc::new(AtomicUsize::new(0));
    let mut service = CausalLayer::new(&db).layer(Turnstile { is_ready: false, clones: Arc::clone(&clones) });
    for round in 1..4 {
        poll_fn(|context| service.poll_ready(context)).await?;
        service.call(Request::new(())).await?;
        assert_eq!(clones.load(Relaxed), round);
    }
    Ok(())
}

/// The name of the node that serves a read.
pub(crate) async fn who(db: &DatabaseConnection) -> Result<String> {
    Ok(item::Entity::find().one(db).await?.map(|item| item.name).unwrap_or_default())
}
