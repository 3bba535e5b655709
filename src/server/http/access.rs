//! Who may ask: tokens, names of this server, pages of other sites. And a line in the log for each request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use axum::middleware::Next;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::{App, Client, Peer, cors, dialect};
use crate::refuse;
use crate::server::problem::{Code, Problem};

const SHORTEST_TOKEN: usize = 16;
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Bearer tokens, each with the name of the client that it stands for.
#[derive(Clone, Default)]
pub struct Tokens {
    known: Vec<(String, String)>,
}

impl Tokens {
    /// Reads tokens, one a line, as `TOKEN` or `NAME TOKEN`; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): there is none, or one is shorter than 16 characters.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut known = Vec::new();
        for (number, line) in lines.enumerate() {
            let (name, token) = match line.split_once(char::is_whitespace) {
                Some((name, token)) => (name.to_owned(), token.trim()),
                None => (format!("token {}", number + 1), line),
            };
            if token.len() < SHORTEST_TOKEN || token.contains(char::is_whitespace) {
                refuse!(
                    "token {}: has {} characters, expected {SHORTEST_TOKEN} or more without blanks, as of `openssl rand -hex 16`",
                    number + 1,
                    token.chars().count()
                );
            }
            known.push((name, token.to_owned()));
        }
        if known.is_empty() {
            refuse!("tokens: there is none, expected one on a line");
        }
        Ok(Self { known })
    }

    /// Whether none is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The client that `token` stands for. All are compared, in a time that does not depend on where they differ.
    fn client_of(&self, token: &str) -> Option<&str> {
        let mut found = None;
        for (name, known) in &self.known {
            if bool::from(known.as_bytes().ct_eq(token.as_bytes())) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

/// Who may ask.
#[derive(Clone, Default)]
pub struct Access {
    /// Tokens; none where everybody who reaches the server may ask.
    pub tokens: Tokens,
    /// Names of this server beside `localhost` and addresses.
    pub host_names: Vec<String>,
    /// Sites whose pages may ask, as `https://kiosk.example`.
    pub origins: Vec<String>,
}

impl Access {
    /// A name that a stranger's page may have bent to this address is none of this server's; an address cannot be bent.
    fn knows_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.host_names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

impl Access {
    /// Whether pages of `origin` may ask.
    pub(super) fn allows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What may be asked without a token: the page itself, and whether the server lives.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/openapi.json") || path.starts_with("/page/")
}

fn check(app: &App, request: &Request) -> Result<Client, Problem> {
    let headers = request.headers();
    let host = text(headers, &HOST).unwrap_or_default();
    if !app.access.knows_host(host) {
        return Err(Problem::new(Code::UnknownHost, "Host: is no name of this server; --host-name adds one"));
    }
    // A page of another site may send forms and pictures; it says so itself.
    let origin = text(headers, &ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, name)| name));
    let from_elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let is_allowed = text(headers, &ORIGIN).is_some_and(|origin| app.access.allows_origin(origin));
    let changes = !is_allowed && !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && (from_elsewhere || origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(host))) {
        return Err(Problem::new(Code::ForeignOrigin, "Origin: a page of another site may not ask this server for anything"));
    }
    let peer = request.extensions().get::<Peer>().map_or_else(|| "local".to_owned(), |peer| peer.0.clone());
    if app.access.tokens.is_empty() || is_open(request.uri().path()) {
        return Ok(Client(peer));
    }
    let token = text(headers, &AUTHORIZATION).and_then(|value| value.split_once(' '));
    let is_webui = request.uri().path().starts_with("/sdapi/");
    let token = token.and_then(|(scheme, token)| match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(token.trim().to_owned()),
        // Clients of Stable Diffusion web UI have a name and a password; the password is the token.
        "basic" if is_webui => password(token.trim()),
        _ => None,
    });
    match token.and_then(|token| app.access.tokens.client_of(&token)) {
        Some(name) => Ok(Client(name.to_owned())),
        None => Err(Problem::new(Code::Unauthorized, "Authorization: expected `Bearer` and a token of this server")),
    }
}

/// The password of `Basic` credentials.
fn password(credentials: &str) -> Option<String> {
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Lets through who may ask, and gives every answer what keeps a browser safe.
pub(super) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    let origin = cors::origin(&app.access, request.headers());
    let path = request.uri().path().to_owned();
    let checked = if origin.is_some() && cors::is_preflight(&request) { Ok(None) } else { check(&app, &request).map(Some) };
    let mut response = match checked {
        // A browser asks for leave without the token; what is asked then is looked at like anything else.
        Ok(None) => cors::leave(),
        Ok(Some(client)) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    response = dialect::told(&path, response);
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(origin) = origin {
        cors::allow(headers, origin);
    }
    response
}

/// Writes a line for each answer: who, what, how it went; never what was in it.
pub(super) async fn log_access(request: Request, next: Next) -> Response<Body> {
    let begun = Instant::now();
    let peer = request.extensions().get::<Peer>().map_or_else(|| "local".to_owned(), |peer| peer.0.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    log::info!(target: "kiln::access", "client={peer} method={method} path={path:?} status={status} ms={:.1}", begun.elapsed().as_secs_f64() * 1_000.0);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_named_hosts_are_this_server_and_other_names_are_not() {
        let access = Access { host_names: vec!["kiosk.example".into()], ..Access::default() };
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8321", "[::1]:8321", "[::1]", "192.168.0.7", "kiosk.example:1"] {
            assert!(access.knows_host(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8321", "localhost.evil.example", "[evil", ":80"] {
            assert!(!access.knows_host(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_long_and_stand_for_clients() {
        let tokens = Tokens::parse("# tokens\n0123456789abcdef\nkiosk  fedcba9876543210\n").unwrap();
        assert_eq!(tokens.client_of("fedcba9876543210"), Some("kiosk"));
        assert_eq!(tokens.client_of("0123456789abcdef"), Some("token 1"));
        assert_eq!(tokens.client_of("0123456789abcde"), None);
        assert_eq!(tokens.client_of(""), None);
        for text in ["", "#", "short", "name short", "name 0123456789abcdef more"] {
            assert!(Tokens::parse(text).is_err(), "{text}");
        }
    }
}
