//! One exchange over HTTP/1.1 with a server: a connection of its own for each, limits of time and size.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::address::Address;
use crate::error::refusal;

/// Longer than a machine on the same network takes to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// For a request to be looked at; the server decodes its pictures before it answers.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest silence within an answer. The server says that it is alive every five seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// Of an answer that is read as a whole, in bytes.
const LARGEST: usize = 256 << 20;

/// What a server is asked with.
pub(super) struct Connection {
    pub(super) address: Address,
    token: Option<HeaderValue>,
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// When it is worth asking again, in seconds.
    pub(super) retry_after_s: Option<u64>,
    pub(super) body: Incoming,
}

impl Connection {
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): the token holds what no header may.
    pub(super) fn new(address: Address, token: Option<&str>) -> Result<Self> {
        let header = |token: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| refusal!("token: holds letters that no token has, expected one line of plain letters"))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        };
        Ok(Self { address, token: token.map(header).transpose()? })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Nobody listens, or whoever does is silent or speaks something else.
    pub(super) async fn ask(&self, method: Method, path: &str, json: String) -> Result<Answer> {
        let answer = match &self.address {
            Address::Http { name, port, .. } => {
                let stream = timeout(CONNECT, tokio::net::TcpStream::connect((name.as_str(), *port))).await;
                let stream = stream
                    .map_err(|_| anyhow!("it does not answer"))?
                    .context("no server is reached; is `kiln serve` running there?")?;
                let _ = stream.set_nodelay(true);
                self.exchange(stream, method, path, json).await?
            }
            #[cfg(unix)]
            Address::Socket(file) => {
                let stream = tokio::net::UnixStream::connect(file).await;
                let stream = stream.context("no server is reached; is `kiln serve --socket` running there?")?;
                self.exchange(stream, method, path, json).await?
            }
            #[cfg(not(unix))]
            Address::Socket(_) => bail!("this system has no Unix sockets"),
        };
        let retry_after_s = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { status: answer.status().as_u16(), retry_after_s, body: answer.into_body() })
    }

    async fn exchange<S>(&self, stream: S, method: Method, path: &str, json: String) -> Result<Response<Incoming>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let host = match &self.address {
            Address::Http { host, .. } => host.as_str(),
            Address::Socket(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host).header(CONNECTION, "close");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if !json.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(json)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.context("it does not speak HTTP")?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a connection ended: {error}");
            }
        });
        let answer = timeout(ANSWER, sender.send_request(request)).await.map_err(|_| anyhow!("it does not answer"))?;
        answer.context("the connection ended before an answer came")
    }
}

/// The next piece of a body; `None` at its end.
///
/// # Errors
/// The connection ended early or was silent for too long.
pub(super) async fn next(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let Some(frame) = timeout(SILENCE, frame).await.map_err(|_| anyhow!("it is silent"))? else { return Ok(None) };
        // What is no data is a trailer, which says nothing here.
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
}

/// A body as a whole.
///
/// # Errors
/// As [`next`], or it is larger than any picture.
pub(super) async fn whole(mut body: Incoming) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(data) = next(&mut body).await? {
        if bytes.len() + data.len() > LARGEST {
            bail!("its answer is larger than {} MiB", LARGEST >> 20);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
