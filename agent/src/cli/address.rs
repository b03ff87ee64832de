//! Where an agent listens, as `SPIFFE_ENDPOINT_SOCKET` says it (Workload Endpoint 4).

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use steeple::config::absolute;
use thiserror::Error;

/// The longest path that fits into a Unix socket's address.
const MAX_PATH: usize = 107;

/// The address of a Workload endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Why a text is not the address of a Workload endpoint.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum AddressError {
    #[error("the address is not text")]
    NotText,
    #[error("the address is empty; write unix:///PATH")]
    Empty,
    #[error("the scheme must be unix or tcp, as in unix:///PATH or tcp://127.0.0.1:PORT")]
    Scheme,
    #[error("a unix address has no host; write unix:///PATH with three slashes")]
    Host,
    #[error("the path of a unix address must be absolute; write unix:///PATH")]
    RelativePath,
    #[error("the path is missing; write unix:///PATH")]
    NoPath,
    #[error("an address has no query and no fragment")]
    QueryOrFragment,
    #[error("a % must be followed by two hexadecimal digits")]
    Escape,
    #[error("the path is longer than 107 bytes, which no Unix socket can have")]
    TooLong,
    #[error("a tcp address is an IP address and a port from 1 to 65535, and nothing else")]
    Tcp,
}

impl Address {
    /// Reads a flag, where a plain path will do as well.
    pub(super) fn of_flag(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() || text.contains(':') && !text.starts_with('/') {
            return text.parse();
        }
        unix(absolute(Path::new(text)).into_os_string().into_encoded_bytes())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            return match rest.parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 => Ok(Self::Tcp(address)),
                Ok(_) | Err(_) => Err(AddressError::Tcp),
            };
        }
        let rest = text.strip_prefix("unix:").ok_or(AddressError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(AddressError::QueryOrFragment);
        }
        let path = match rest.strip_prefix("//") {
            Some("") => return Err(AddressError::NoPath),
            Some(path) if !path.starts_with('/') => return Err(AddressError::Host),
            Some(path) => path,
            None if rest.is_empty() => return Err(AddressError::NoPath),
            None => rest,
        };
        if !path.starts_with('/') {
            return Err(AddressError::RelativePath);
        }
        unix(unescape(path)?)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

fn unix(path: Vec<u8>) -> Result<Address, AddressError> {
    use std::os::unix::ffi::OsStringExt as _;
    if path == b"/" {
        return Err(AddressError::NoPath);
    }
    if path.len() > MAX_PATH || path.contains(&0) {
        return Err(AddressError::TooLong);
    }
    Ok(Address::Unix(OsString::from_vec(path).into()))
}

fn unescape(text: &str) -> Result<Vec<u8>, AddressError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).ok_or(AddressError::Escape)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(AddressError::Escape);
        }
        bytes.push(u8::from_str_radix(digits, 16).or(Err(AddressError::Escape))?);
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, AddressError>) {
        let found = text.parse::<Address>();
        assert_eq!(found.map(|address| address.to_string()).as_deref(), expected.as_deref());
    }

    #[test]
    fn an_address_is_unix_with_a_path_or_tcp_with_an_ip_address_and_port() {
        check("unix:///p", Ok("/p")); // H201, WEP-11
        check("unix:/p", Ok("/p"));
        check("unix:///dir%20x/s", Ok("/dir x/s"));
        check("tcp://127.0.0.1:1", Ok("tcp://127.0.0.1:1")); // WEP-12
        check("tcp://[::1]:1", Ok("tcp://[::1]:1"));
    }

    #[test]
    fn a_flag_may_be_a_path_from_where_the_command_is_given() {
        let here = std::env::current_dir().unwrap();
        let of_flag = |text: &str| Address::of_flag(text).map(|address| address.to_string());
        assert_eq!(of_flag("/p:q"), Ok("/p:q".to_owned()));
        assert_eq!(of_flag("unix:///p"), Ok("/p".to_owned()));
        assert_eq!(of_flag("a/s.sock"), Ok(here.join("a/s.sock").display().to_string()));
        assert_eq!(of_flag("s.sock"), Ok(here.join("s.sock").display().to_string()));
        assert_eq!(of_flag("http://x"), Err(AddressError::Scheme));
        assert_eq!(of_flag(""), Err(AddressError::Empty));
    }

    #[test]
    fn each_wrong_address_has_an_error_of_its_own() {
        check("", Err(AddressError::Empty)); // H200, WEP-10
        check("unix:", Err(AddressError::NoPath));
        check("unix://", Err(AddressError::NoPath));
        check("unix:///", Err(AddressError::NoPath));
        check("unix://host/p", Err(AddressError::Host));
        check("unix:rel/p", Err(AddressError::RelativePath));
        check("unix:///p?q", Err(AddressError::QueryOrFragment));
        check("unix:///p#f", Err(AddressError::QueryOrFragment));
        check("unix:///p%2", Err(AddressError::Escape));
        check("unix:///p%zz", Err(AddressError::Escape));
        check(&format!("unix:///{}", "p".repeat(107)), Err(AddressError::TooLong)); // H202
        for text in [
            "tcp://",
            "tcp://localhost:80",
            "tcp://1.2.3.4",
            "tcp://1.2.3.4:0",
            "tcp://1.2.3.4:99999",
            "tcp://u@1.2.3.4:1",
            "tcp://1.2.3.4:1/x",
        ] {
            check(text, Err(AddressError::Tcp)); // WEP-12
        }
        for text in ["http://x", "npipe:x", "p", "UNIX:///p", "/bare/path"] {
            check(text, Err(AddressError::Scheme)); // WEP-10
        }
    }
}
