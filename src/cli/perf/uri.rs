//! Addresses of brokers, as RabbitMQ's URI specification has them: `amqp://user:password@host:port/vhost`.
//!
//! In: a text that somebody typed. Out: its parts, decoded, or what is wrong with it. Names are not resolved here. An
//! empty vhost, as in `amqp://host/`, is taken for `/`, because nobody has a vhost without a name.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::protocol::PORT;

/// Where a broker is and who connects.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
}

/// Why a text is no address of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// It is one of a TLS port.
    #[error("amqps:// is not supported: use amqp:// and a port without TLS")]
    Tls,
    /// It does not begin with the scheme.
    #[error("it does not begin with amqp://, as in amqp://guest:guest@127.0.0.1:5672/%2f")]
    Scheme,
    /// The host is missing.
    #[error("the host is missing")]
    Host,
    /// The port is no number of 16 bits.
    #[error("the port '{0}' is not a number from 1 to 65535")]
    Port(String),
    /// A percent sign is not followed by two hexadecimal digits, or the decoded octets are no text.
    #[error("'{0}' is not percent-encoded text")]
    Encoding(String),
    /// The vhost has a slash that is not encoded, or there is a query.
    #[error("'{0}' is not a vhost: encode a slash as %2f, and give no query")]
    Vhost(String),
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.starts_with("amqps://") {
            return Err(UriError::Tls);
        }
        let rest = text.strip_prefix("amqp://").ok_or(UriError::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains(['/', '?', '#']) {
            return Err(UriError::Vhost(path.to_owned()));
        }
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None if login.is_empty() => ("guest".to_owned(), "guest".to_owned()),
            None => (decoded(login)?, String::new()),
        };
        let (host, port) = host_and_port(address)?;
        let vhost = match decoded(path)? {
            empty if empty.is_empty() => "/".to_owned(),
            vhost => vhost,
        };
        Ok(Self {
            host,
            port,
            user,
            password,
            vhost,
        })
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), UriError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or(UriError::Host)?;
            let port = match behind.strip_prefix(':') {
                None if behind.is_empty() => None,
                None => return Err(UriError::Port(behind.to_owned())),
                port => port,
            };
            (host, port)
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let host = decoded(host)?;
    if host.is_empty() {
        return Err(UriError::Host);
    }
    let port = match port {
        None => PORT,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(UriError::Port(text.to_owned())),
        },
    };
    Ok((host, port))
}

fn decoded(text: &str) -> Result<String, UriError> {
    let wrong = || UriError::Encoding(text.to_owned());
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        octets.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = behind;
    }
    String::from_utf8(octets).map_err(|_| wrong())
}

/// Host and port alone: neither the password nor the user belongs into a report.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Uri({self}, vhost {:?}, user {:?})",
            self.vhost, self.user
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(text: &str, expected: (&str, u16, &str, &str, &str)) {
        let uri: Uri = text.parse().unwrap();
        let parts = (
            &*uri.host,
            uri.port,
            &*uri.user,
            &*uri.password,
            &*uri.vhost,
        );
        assert_eq!(parts, expected, "{text}");
    }

    #[test]
    fn parts_are_decoded_and_defaults_filled_in() {
        check("amqp://h", ("h", 5672, "guest", "guest", "/"));
        check("amqp://h/", ("h", 5672, "guest", "guest", "/"));
        check("amqp://u:p%40@h:1/%2fa", ("h", 1, "u", "p@", "/a"));
        check("amqp://u@[::1]:9/v", ("::1", 9, "u", "", "v"));
        check("amqp://[::1]", ("::1", 5672, "guest", "guest", "/"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let failed = |text: &str| text.parse::<Uri>().unwrap_err();
        assert_eq!(failed("amqps://h"), UriError::Tls);
        assert_eq!(failed("http://h"), UriError::Scheme);
        assert_eq!(failed("amqp://:1/"), UriError::Host);
        assert_eq!(failed("amqp://h:x"), UriError::Port("x".to_owned()));
        assert_eq!(failed("amqp://h:0"), UriError::Port("0".to_owned()));
        assert_eq!(failed("amqp://h/%2"), UriError::Encoding("%2".to_owned()));
        assert_eq!(failed("amqp://h/%+1"), UriError::Encoding("%+1".to_owned()));
        assert_eq!(failed("amqp://h//"), UriError::Vhost("/".to_owned()));
    }

    #[test]
    fn the_password_is_not_shown() {
        let uri: Uri = "amqp://u:secret@[::1]:9/v".parse().unwrap();
        assert_eq!(uri.to_string(), "[::1]:9");
        assert!(!format!("{uri:?}").contains("secret"));
    }
}
