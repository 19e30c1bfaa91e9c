//! `multipart/form-data` (RFC 7578), as browsers and curl send it: a few parts, each with a name.
//!
//! In: a whole body and its boundary. Out: the parts, borrowed. What they are for is not known here.

use super::answer::ApiError;

/// Parts of one body at most.
const PARTS_MAX: usize = 16;

/// A field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its name.
    pub name: String,
    /// What was sent in it.
    pub content: &'a [u8],
}

/// The boundary in a content type, if it is that of a form.
pub fn boundary(content_type: &str) -> Option<String> {
    let mut parameters = content_type.split(';').map(str::trim);
    if !parameters
        .next()?
        .eq_ignore_ascii_case("multipart/form-data")
    {
        return None;
    }
    parameters
        .find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("boundary")
                .then(|| value.trim().trim_matches('"').to_owned())
        })
        .filter(|boundary| !boundary.is_empty())
}

/// The parts of a form.
///
/// # Errors
/// 400 for a body that ends too early, or a part without a name.
pub fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, ApiError> {
    let wrong = || ApiError::bad_request("the multipart body is malformed");
    let delimiter = format!("\r\n--{boundary}");
    let first = delimiter.trim_start_matches("\r\n").as_bytes();
    let mut rest = match find(body, first) {
        Some(at) => &body[at + first.len()..],
        None => return Err(wrong()),
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == PARTS_MAX {
            return Err(ApiError::bad_request(
                "the multipart body has too many parts",
            ));
        }
        let line_end = find(rest, b"\r\n").ok_or_else(wrong)?;
        let head_begin = line_end + 2;
        let head_bytes = find(&rest[line_end..], b"\r\n\r\n").ok_or_else(wrong)?;
        let head = &rest[head_begin.min(line_end + head_bytes)..line_end + head_bytes];
        let content = &rest[line_end + head_bytes + 4..];
        let end = find(content, delimiter.as_bytes()).ok_or_else(wrong)?;
        parts.push(Part {
            name: name(head).ok_or_else(wrong)?,
            content: &content[..end],
        });
        rest = &content[end + delimiter.len()..];
    }
    Ok(parts)
}

/// The name in the head of a part.
fn name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    disposition.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        (name.trim() == "name").then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_those_of_forms() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            (
                "Multipart/Form-Data; charset=x; Boundary=\"a b\"",
                Some("a b"),
            ),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=abc", None),
            ("application/json", None),
        ] {
            assert_eq!(boundary(kind).as_deref(), expected, "{kind}");
        }
    }

    #[test]
    fn parts_have_names_and_bytes() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.json\"\r\n\
            Content-Type: application/json\r\n\r\n{\"a\":\r\n1}\r\n--b\r\ncontent-disposition: form-data; name=redirect\r\n\r\n\r\n--b--\r\n";
        let parts = parts(body, "b").unwrap();
        assert_eq!(
            parts,
            [
                Part {
                    name: "file".to_owned(),
                    content: b"{\"a\":\r\n1}"
                },
                Part {
                    name: "redirect".to_owned(),
                    content: b""
                },
            ]
        );
    }

    #[test]
    fn bodies_that_end_too_early_are_refused() {
        let whole = b"--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--b--";
        assert_eq!(parts(whole, "b").unwrap().len(), 1);
        for length in 0..whole.len() - 2 {
            assert!(parts(&whole[..length], "b").is_err(), "{length}");
        }
        assert!(parts(b"--b\r\n\r\nx\r\n--b--", "b").is_err());
    }
}
