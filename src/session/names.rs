//! Names from the wire to the broker. Methods without content were checked to be UTF-8 when they were parsed.

use crate::protocol::ShortStr;

/// A name as the client wrote it.
pub(super) fn plain(name: ShortStr<'_>) -> String {
    name.to_str_lossy().into_owned()
}

/// A name without CR and LF (`rabbit_channel.erl`, `strip_cr_lf`): copied from a terminal, names bring them along.
pub(super) fn stripped(name: ShortStr<'_>) -> String {
    let mut name = plain(name);
    name.retain(|letter| !matches!(letter, '\r' | '\n'));
    name
}
