//! Names and addresses on the network.
//!
//! In: a written value. Out: addresses to listen on, or the name of a node. Nothing is resolved and
//! nothing is bound here; the machine is asked for its own name only.

use std::net::SocketAddr;

use super::{Kind, MISFIT, Misfit, Value, quoted, rendered_list};
use crate::config::value::Listeners;

/// The name of a node, `name@host`.
pub struct NodeName;

impl Kind for NodeName {
    type Used = String;

    fn allowed(&self) -> String {
        "name@host, of letters, digits and . _ -, at most 255 bytes; `<hostname>` stands for this machine's"
            .to_owned()
    }

    fn parse(&self, value: &Value) -> Result<String, Misfit> {
        let name = value
            .text()
            .ok_or(MISFIT)?
            .replace("<hostname>", &host_name());
        let fits = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match name.split_once('@') {
            Some((node, host)) if fits(node) && fits(host) && name.len() <= 255 => Ok(name),
            _ => Err(MISFIT),
        }
    }

    fn render(&self, used: &String) -> String {
        quoted(used)
    }
}

/// The machine's name up to its first dot, as RabbitMQ shortens it.
fn host_name() -> String {
    let read = |path| std::fs::read_to_string(path).ok();
    let name = read("/proc/sys/kernel/hostname")
        .or_else(|| read("/etc/hostname"))
        .unwrap_or_default();
    let short: String = name
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_' || *letter == '-')
        .collect();
    if short.is_empty() {
        "localhost".to_owned()
    } else {
        short
    }
}

/// Addresses to listen on.
pub struct Addresses {
    may_be_empty: bool,
}

/// A list of addresses with ports; where it may be empty, an empty one switches the listener off.
pub fn addresses(may_be_empty: bool) -> Addresses {
    Addresses { may_be_empty }
}

impl Kind for Addresses {
    type Used = Listeners;

    fn allowed(&self) -> String {
        let off = if self.may_be_empty {
            "; [] or none switches it off"
        } else {
            ""
        };
        format!("addresses with ports, like \"127.0.0.1:5672\" or \"[::1]:5672\"{off}")
    }

    fn parse(&self, value: &Value) -> Result<Listeners, Misfit> {
        let items = match value {
            Value::Text(_) => vec![value.clone()],
            _ => value.list().ok_or(MISFIT)?,
        };
        if items.is_empty() && !self.may_be_empty {
            return Err(MISFIT);
        }
        let addresses: Result<Vec<_>, _> = items.iter().map(address_from_value).collect();
        Ok(Listeners {
            addresses: addresses?,
            defaulted: false,
        })
    }

    fn render(&self, used: &Listeners) -> String {
        rendered_list(&used.addresses, |address| quoted(&address.to_string()))
    }
}

fn address_from_value(value: &Value) -> Result<SocketAddr, Misfit> {
    let text = value.text().ok_or(MISFIT)?.trim();
    text.parse().map_err(|_| Misfit {
        hint: Some(match text.rsplit_once(':') {
            _ if text.parse::<std::net::IpAddr>().is_ok() => "the port is missing",
            None => "the port is missing",
            Some(("" | "*", _)) => {
                "for every address write \"0.0.0.0:PORT\" (IPv4) and \"[::]:PORT\" (IPv6)"
            }
            Some((_, port)) if port.parse::<u16>().is_err() => "a port is a number from 0 to 65535",
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
                "an IPv6 address stands in brackets"
            }
            Some(_) => "a host name is not taken here: write the machine's IP address",
        }),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_says_what_is_wrong_with_it() {
        let hint = |text: &str| {
            let value = Value::Text(text.to_owned());
            addresses(false).parse(&value).unwrap_err().hint.unwrap()
        };
        assert_eq!(hint("127.0.0.1"), "the port is missing");
        assert_eq!(hint("::1"), "the port is missing");
        assert_eq!(hint("127.0.0.1:http"), "a port is a number from 0 to 65535");
        assert_eq!(
            hint("127.0.0.1:70000"),
            "a port is a number from 0 to 65535"
        );
        assert!(hint(":5672").contains("0.0.0.0:PORT"));
        assert!(hint("localhost:5672").contains("host name"));
    }

    #[test]
    fn a_machine_has_a_name_without_dots() {
        let name = host_name();
        assert!(!name.is_empty() && !name.contains('.'));
    }
}
