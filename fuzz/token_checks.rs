//! Properties of tokens that hold for whatever a client sends: for the fuzzer, and for `tests/it/hostile.rs`.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

use http::{
    HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use sea_orm_resolver::{
    CausalToken, DatabaseConnection,
    tower::{CausalLayer, RequestSession},
};
use tower_layer::Layer;
use tower_service::Service;

const HEADER: &str = "x-causal-token";

/// Fails when a property does not hold for these bytes.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut tokens: Vec<CausalToken> = Vec::new();
    for text in text.split(',') {
        for text in [text.to_owned(), with_checksum(text)] {
            if let Ok(token) = text.parse::<CausalToken>() {
                assert_eq!(token.to_string(), text, "a token has one text");
                assert_eq!(token.merge(&token), token, "{text}");
                tokens.push(token);
            }
        }
    }
    for (one, other) in tokens.iter().zip(tokens.iter().skip(1)) {
        let merged = one.merge(other);
        assert_eq!(merged, other.merge(one), "{one} {other}");
        assert_eq!(merged.to_string().parse().as_ref().ok(), Some(&merged), "{one} {other}");
    }
    let forged: Vec<_> = text.split(',').map(with_checksum).collect();
    let cookies: Vec<_> = forged.iter().map(|text| format!("causal_token={text}")).collect();
    request(&[(HEADER, bytes), (COOKIE.as_str(), bytes)]);
    request(&[(HEADER, forged.join(",").as_bytes()), (COOKIE.as_str(), cookies.join("; ").as_bytes())]);
}

/// The text with the checksum that a token has: chance finds none.
fn with_checksum(body: &str) -> String {
    let crc = !body.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    let digit = |place: u32| char::from_digit(crc / 36_u32.pow(place) % 36, 36).expect("a digit");
    format!(
        "{body}~{}",
        (0..7).rev().map(|place| if place == 6 { digit_above(crc) } else { digit(place) }).collect::<String>()
    )
}

/// The seventh digit: 36⁶ is the largest power that a `u32` holds.
fn digit_above(crc: u32) -> char {
    char::from_digit(crc / 36_u32.pow(6), 36).expect("a digit")
}

/// Sends a request with these headers through the layer. It is answered at once, and no token comes back: nothing was
/// written.
fn request(headers: &[(&'static str, &[u8])]) {
    static LAYER: OnceLock<CausalLayer> = OnceLock::new();
    let mut request = Request::new(());
    for (name, value) in headers {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        request.headers_mut().append(*name, value);
    }
    let layer = LAYER.get_or_init(|| CausalLayer::new(&DatabaseConnection::default()));
    let mut service = layer.layer(Handler);
    let mut context = Context::from_waker(Waker::noop());
    let answered = pin!(service.call(request)).poll(&mut context);
    let Poll::Ready(Ok(response)) = answered else { panic!("the request is not answered") };
    assert!(!response.headers().contains_key(HEADER) && !response.headers().contains_key(SET_COOKIE));
}

#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(request.extensions().get::<RequestSession>().is_some());
        ready(Ok(Response::new(())))
    }
}
