//! HTTP clients that decide which of their requests share a TCP connection.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use axum::body::{Body, to_bytes};
use http::{HeaderValue, Method, Request, StatusCode, Version};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

const HEADER: &str = "x-causal-token";

/// Which requests of a client share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    /// HTTP/1.1 with keep-alive: all of them, so that axum runs all in one task.
    KeepAlive,
    /// HTTP/1.1: none.
    OneEach,
    /// HTTP/2: all of them, and axum runs each in a task of its own.
    Http2,
}

impl Connections {
    pub(super) const ALL: [Self; 3] = [Self::KeepAlive, Self::OneEach, Self::Http2];
}

/// Whether a client sends the token that it was given last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    Returned,
    Ignored,
}

/// One client, and what the client remembers.
#[derive(Debug)]
pub(super) struct Client {
    connections: Connections,
    tokens: Tokens,
    token: Option<HeaderValue>,
    /// The connection to each service.
    open: HashMap<SocketAddr, Sender>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<String>),
    Http2(http2::SendRequest<String>),
}

impl Client {
    pub(super) fn new(connections: Connections, tokens: Tokens) -> Self {
        Self { connections, tokens, token: None, open: HashMap::new() }
    }

    /// Whether a service ever gave the client a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Writes a row, by one statement and in a transaction by turns, and returns its key.
    pub(super) async fn write(&mut self, at: SocketAddr, round: u32) -> Result<i32> {
        let path = if round % 2 == 0 { "/statement" } else { "/transaction" };
        let (status, body) = self.ask(at, Method::POST, path).await?;
        ensure!(status == StatusCode::OK, "{path}: {status} {body}");
        body.parse().with_context(|| format!("`{body}` is no key"))
    }

    /// Whether the service finds the row.
    pub(super) async fn finds(&mut self, at: SocketAddr, id: i32) -> Result<bool> {
        self.found(at, &format!("/items/{id}")).await
    }

    /// Whether the service finds the row under `Consistency::Eventual`.
    pub(super) async fn finds_eventually(&mut self, at: SocketAddr, id: i32) -> Result<bool> {
        self.found(at, &format!("/control/{id}")).await
    }

    async fn found(&mut self, at: SocketAddr, path: &str) -> Result<bool> {
        match self.ask(at, Method::GET, path).await? {
            (StatusCode::OK, _) => Ok(true),
            (StatusCode::NOT_FOUND, _) => Ok(false),
            (status, body) => bail!("{path}: {status} {body}"),
        }
    }

    async fn ask(&mut self, at: SocketAddr, method: Method, path: &str) -> Result<(StatusCode, String)> {
        let mut request = Request::new(String::new());
        *request.method_mut() = method;
        *request.uri_mut() = match self.connections {
            Connections::Http2 => format!("http://{at}{path}"),
            Connections::KeepAlive | Connections::OneEach => path.to_owned(),
        }
        .parse()?;
        request.headers_mut().insert("host", at.to_string().parse()?);
        if let (Tokens::Returned, Some(token)) = (self.tokens, &self.token) {
            request.headers_mut().insert(HEADER, token.clone());
        }

        let mut sender = match self.open.remove(&at) {
            Some(sender) => sender,
            None => open(self.connections, at).await?,
        };
        let response = match &mut sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let version = if self.connections == Connections::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        ensure!(response.version() == version, "the service answers in {:?}", response.version());
        if let Some(token) = response.headers().get(HEADER) {
            self.token = Some(token.clone());
        }
        let (head, body) = response.into_parts();
        let body = text(body).await?;
        if self.connections != Connections::OneEach {
            self.open.insert(at, sender);
        }
        Ok((head.status, body))
    }
}

async fn open(connections: Connections, at: SocketAddr) -> Result<Sender> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    // Each connection is driven by a task that ends with its sender.
    Ok(match connections {
        Connections::KeepAlive | Connections::OneEach => {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        }
        Connections::Http2 => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        }
    })
}

async fn text(body: Incoming) -> Result<String> {
    const MOST: usize = 64 * 1024;
    Ok(String::from_utf8(to_bytes(Body::new(body), MOST).await?.to_vec())?)
}
