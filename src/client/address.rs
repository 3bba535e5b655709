//! Where a server listens, as a person writes it: `http://ADDRESS:PORT` or `unix:FILE`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::http::uri::Authority;

/// The port where none is written.
const HTTP_PORT: u16 = 80;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A name or an address, and a port.
    Http {
        /// As it goes into the `Host` header.
        host: String,
        /// What is connected to: a name or an address without brackets.
        name: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Socket(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return if cfg!(unix) { Ok(Self::Socket(path.into())) } else { Err("this system has no Unix sockets".to_owned()) };
        }
        if text.starts_with("https://") {
            return Err(
                "is spoken to in TLS, which kiln does not speak; name http://ADDRESS:PORT, or lay a tunnel (ssh -L)".to_owned()
            );
        }
        let expected = || "expected http://ADDRESS:PORT or unix:FILE, as `kiln serve` prints it".to_owned();
        let rest = text.strip_prefix("http://").ok_or_else(expected)?;
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let authority = Authority::from_str(host).map_err(|_| expected())?;
        if authority.host().is_empty() || host.contains('@') {
            return Err(expected());
        }
        let port = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((_, port)) => port.parse().ok().filter(|port| *port > 0).ok_or_else(expected)?,
            None => HTTP_PORT,
        };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self::Http { host: host.to_owned(), name, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, .. } => write!(formatter, "http://{host}"),
            Self::Socket(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_server_prints_them() {
        let http = |host: &str, name: &str, port| Ok(Address::Http { host: host.into(), name: name.into(), port });
        assert_eq!("http://127.0.0.1:8321".parse(), http("127.0.0.1:8321", "127.0.0.1", 8321));
        assert_eq!("http://kiosk.example/".parse(), http("kiosk.example", "kiosk.example", 80));
        assert_eq!("http://[::1]:8321".parse(), http("[::1]:8321", "::1", 8321));
        assert_eq!("http://[::1]".parse(), http("[::1]", "::1", 80));
        #[cfg(unix)]
        assert_eq!("unix:/run/kiln.sock".parse(), Ok(Address::Socket("/run/kiln.sock".into())));
    }

    #[test]
    fn other_addresses_are_refused() {
        for (text, part) in [
            ("", "expected http://"),
            ("127.0.0.1:8321", "expected http://"),
            ("unix:", "expected http://"),
            ("http://", "expected http://"),
            ("http://:80", "expected http://"),
            ("http://a:0", "expected http://"),
            ("http://a:99999", "expected http://"),
            ("http://a:b", "expected http://"),
            ("http://user:word@a", "expected http://"),
            ("http://a/jobs", "expected http://"),
            ("http://a b", "expected http://"),
            ("http://a\r\nX: y", "expected http://"),
            ("https://a", "TLS"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
