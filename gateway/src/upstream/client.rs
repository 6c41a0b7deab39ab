//! Outgoing HTTP: an address and limits come in, a client and bounded reads go out.
//!
//! It follows no redirect (a signed body is for the address that was configured), uses no proxy of the
//! environment, and never reads more than it is told to or longer than it is told to.

use std::{error::Error as _, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response, Url, redirect::Policy};
use tokio::time::{Instant, timeout_at};

/// Common application servers close idle connections after 5 s; letting go before they do keeps requests
/// from being written to a connection that is being closed.
const IDLE: Duration = Duration::from_secs(4);

/// An address that takes longer to connect to is down.
const CONNECT: Duration = Duration::from_secs(5);

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReadError {
    /// The deadline passed.
    #[error("too late")]
    TooLate,
    /// It is larger than allowed.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// The connection failed.
    #[error("{}", chain(.0))]
    Http(#[source] reqwest::Error),
}

/// A client for one address.
pub(crate) fn build(idle_connections: usize, timeout: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT.min(timeout))
        .pool_max_idle_per_host(idle_connections)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("gateway/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// An address that [`build`]'s client can ask.
pub(crate) fn parse_url(url: &str) -> Result<Url, &'static str> {
    let parsed =
        Url::parse(url).map_err(|_| "it is not an address, written as http://HOST:PORT/PATH")?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err("its scheme is not known");
    }
    if parsed.host_str().is_none_or(str::is_empty) { Err("it has no host") } else { Ok(parsed) }
}

/// Waits until the deadline at most.
pub(crate) async fn by<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, ReadError> {
    match timeout_at(deadline, work).await {
        Ok(done) => done.map_err(ReadError::Http),
        Err(_) => Err(ReadError::TooLate),
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read_whole(
    response: &mut Response,
    limit: usize,
    deadline: Instant,
) -> Result<Bytes, ReadError> {
    let declared = response.content_length().unwrap_or(0);
    if usize::try_from(declared).map_or(true, |declared| declared > limit) {
        return Err(ReadError::TooLarge(limit));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = by(deadline, response.chunk()).await? {
        if body.len() + chunk.len() > limit {
            return Err(ReadError::TooLarge(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The error with what caused it, less the address: that may hold a password, and the log names the upstream.
fn chain(error: &reqwest::Error) -> String {
    let what = if error.is_connect() { "cannot connect" } else { "connection broke" };
    let mut text = what.to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
