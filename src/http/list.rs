//! Lists: sorted, filtered, cut into pages, with the asked columns; the same for every resource.
//!
//! In: the query, the rows of a resource as it holds them, and how to look at one ([`Listed`]). Out: JSON. A row is rendered
//! only when it is on the page, unless the list is sorted by a field that the resource cannot give without rendering. What a
//! row is, is not known here. The rules are those of `rabbit_mgmt_util` (`pagination_params/1`, `sort_list/4`, `range_filter/3`).

use std::cmp::Ordering;

use axum::http::StatusCode;
use axum::response::Response;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::answer::{self, Answer, ApiError};
use super::columns::Columns;
use super::input::Params;
use crate::model::Name;

/// Rows of a page unless it is said, and at most.
const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 500;
/// Characters of a filter.
const FILTER_CHARS_MAX: usize = 1024;
/// Bytes of memory of a compiled filter.
const FILTER_PROGRAM_BYTES_MAX: usize = 256 * 1024;
/// Lists of more rows are made on a thread of their own, so that connections are not held up.
const ROWS_INLINE_MAX: usize = 500;

/// A resource whose objects can be listed.
pub trait Listed: Send + 'static {
    /// An object as it is held before it is shown.
    type Row: Send + 'static;

    /// Virtual host and name, which order the list; without a virtual host the empty text.
    fn key(&self, row: &Self::Row) -> (Name, Name);

    /// A field to sort by that costs less than the whole; `None` asks for the whole.
    fn field(&self, _row: &Self::Row, _path: &str) -> Option<Value> {
        None
    }

    /// The object as it is shown; `None` when it has gone meanwhile.
    fn render(&self, row: &Self::Row) -> Option<Value>;
}

/// What a query asks of a list.
#[derive(Debug, Default)]
pub struct ListQuery {
    page: Option<Page>,
    sort: Option<String>,
    is_reversed: bool,
    columns: Option<Columns>,
}

#[derive(Debug)]
struct Page {
    number: usize,
    size: usize,
    filter: Option<Filter>,
}

#[derive(Debug)]
enum Filter {
    /// In lower case.
    Contains(String),
    Matches(Regex),
}

impl Filter {
    fn parse(text: &str, is_regex: bool) -> Result<Self, ApiError> {
        if text.chars().count() > FILTER_CHARS_MAX {
            return Err(ApiError::bad_request(format!(
                "the filter has more than {FILTER_CHARS_MAX} characters"
            )));
        }
        if !is_regex {
            return Ok(Self::Contains(text.to_lowercase()));
        }
        RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(FILTER_PROGRAM_BYTES_MAX)
            .build()
            .map(Self::Matches)
            .map_err(|error| {
                ApiError::bad_request(format!("the filter is no regular expression: {error}"))
            })
    }

    fn lets_through(&self, name: &str) -> bool {
        match self {
            Self::Contains(part) => name.to_lowercase().contains(part),
            Self::Matches(pattern) => pattern.is_match(name),
        }
    }
}

impl ListQuery {
    /// Sorting and columns, for lists that have no pages.
    pub fn unpaged(params: &Params) -> Self {
        Self {
            page: None,
            sort: params
                .get("sort")
                .filter(|sort| !sort.is_empty())
                .map(str::to_owned),
            is_reversed: params.is_true("sort_reverse"),
            columns: params.get("columns").map(Columns::parse),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// 400 for a page, a size or a filter that is none.
    pub fn parse(params: &Params) -> Result<Self, ApiError> {
        let number = |name| match params.get(name).map(str::parse::<i64>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(ApiError::bad_request("Pagination parameters are invalid")),
        };
        let (page, size) = (number("page")?, number("page_size")?);
        let page = match page {
            None => None,
            Some(page) => {
                let size_or_default = size.unwrap_or(PAGE_SIZE as i64);
                let is_valid = page > 0 && (1..=PAGE_SIZE_MAX as i64).contains(&size_or_default);
                if !is_valid {
                    return Err(ApiError::new(
                        StatusCode::BAD_REQUEST,
                        "invalid_pagination_parameters",
                        format!(
                            "Invalid pagination parameters: page number {page}, page size {size_or_default}"
                        ),
                    ));
                }
                let filter = params.get("name").filter(|name| !name.is_empty());
                Some(Page {
                    number: page as usize,
                    size: size_or_default as usize,
                    filter: filter
                        .map(|name| Filter::parse(name, params.is_true("use_regex")))
                        .transpose()?,
                })
            }
        };
        Ok(Self {
            page,
            ..Self::unpaged(params)
        })
    }

    fn shown(&self, value: Value) -> Value {
        match &self.columns {
            Some(columns) => columns.of(value),
            None => value,
        }
    }
}

/// One object, with the asked columns.
///
/// # Errors
/// 404 for none.
pub fn one(params: &Params, value: Option<Value>) -> Answer {
    let value = value.ok_or_else(ApiError::object_not_found)?;
    match params.get("columns") {
        Some(columns) => answer::json(&Columns::parse(columns).of(value)),
        None => answer::json(&value),
    }
}

/// A list of what is JSON already, such as a few definitions; sorted by `vhost` and `name` unless the query says otherwise.
pub fn of_values(query: &ListQuery, values: Vec<Value>) -> Answer {
    struct Values;

    impl Listed for Values {
        type Row = Value;

        fn key(&self, row: &Value) -> (Name, Name) {
            let text = |name| Name::from(row.get(name).and_then(Value::as_str).unwrap_or_default());
            (text("vhost"), text("name"))
        }

        fn render(&self, row: &Value) -> Option<Value> {
            Some(row.clone())
        }
    }

    write(query, &Values, values)
}

/// Makes the list and the response.
///
/// # Errors
/// 400 for a page that does not exist.
pub async fn reply<L: Listed>(query: ListQuery, listed: L, rows: Vec<L::Row>) -> Answer {
    if rows.len() <= ROWS_INLINE_MAX {
        return write(&query, &listed, rows);
    }
    tokio::task::spawn_blocking(move || write(&query, &listed, rows))
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(format!("a list was not made: {error}"))))
}

fn write<L: Listed>(query: &ListQuery, listed: &L, rows: Vec<L::Row>) -> Answer {
    let total = rows.len();
    let rows = sorted(query, listed, rows);
    let Some(page) = &query.page else {
        return Ok(response(items(query, listed, &rows).0));
    };
    let filtered: Vec<&Keyed<L::Row>> = match &page.filter {
        None => rows.iter().collect(),
        Some(filter) => rows
            .iter()
            .filter(|row| filter.lets_through(&row.name))
            .collect(),
    };
    let first = (page.number - 1).saturating_mul(page.size);
    if first > filtered.len() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "page_out_of_range",
            format!(
                "Page out of range, page: {} page size: {}, len: {}",
                page.number,
                page.size,
                filtered.len()
            ),
        ));
    }
    let last = first.saturating_add(page.size).min(filtered.len());
    let (items, item_count) = items(query, listed, filtered[first..last].iter().copied());
    let mut text = format!(
        "{{\"filtered_count\":{},\"item_count\":{item_count},\"items\":",
        filtered.len()
    )
    .into_bytes();
    text.extend(items);
    let page_count = filtered.len().div_ceil(page.size);
    text.extend(
        format!(
            ",\"page\":{},\"page_count\":{page_count},\"page_size\":{},\"total_count\":{total}}}",
            page.number, page.size
        )
        .into_bytes(),
    );
    Ok(response(text))
}

fn response(text: Vec<u8>) -> Response {
    answer::json_bytes(StatusCode::OK, text)
}

/// A row with what orders it.
struct Keyed<R> {
    sort: Value,
    vhost: Name,
    name: Name,
    row: R,
}

fn sorted<L: Listed>(query: &ListQuery, listed: &L, rows: Vec<L::Row>) -> Vec<Keyed<L::Row>> {
    let mut keyed: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let (vhost, name) = listed.key(&row);
            let sort = match query.sort.as_deref() {
                // Those two stand in the key.
                None | Some("vhost") => Value::Null,
                Some("name") => Value::String(name.to_string()),
                Some(path) => listed.field(&row, path).unwrap_or_else(|| {
                    let whole = listed.render(&row).unwrap_or_default();
                    at(&whole, path).cloned().unwrap_or_default()
                }),
            };
            Keyed {
                sort,
                vhost,
                name,
                row,
            }
        })
        .collect();
    keyed.sort_by(|a, b| {
        compare(&a.sort, &b.sort)
            .then_with(|| a.vhost.cmp(&b.vhost))
            .then_with(|| a.name.cmp(&b.name))
    });
    if query.is_reversed {
        keyed.reverse();
    }
    keyed
}

/// The value at a dotted path.
pub fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(value, |value, part| value.get(part))
}

/// The order of Erlang's terms; what is missing counts as the number 0.
fn compare(a: &Value, b: &Value) -> Ordering {
    fn rank(value: &Value) -> u8 {
        match value {
            Value::Null | Value::Number(_) => 0,
            Value::Bool(_) => 1,
            Value::Object(_) => 2,
            Value::Array(_) => 3,
            Value::String(_) => 4,
        }
    }
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a.len().cmp(&b.len()),
        (Value::Null | Value::Number(_), Value::Null | Value::Number(_)) => {
            let number = |value: &Value| value.as_f64().unwrap_or(0.0);
            number(a).total_cmp(&number(b))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

/// The array of rows, and how many there are of them: some may have gone.
fn items<'r, L: Listed>(
    query: &ListQuery,
    listed: &L,
    rows: impl IntoIterator<Item = &'r Keyed<L::Row>>,
) -> (Vec<u8>, usize) {
    let mut text = vec![b'['];
    let mut count = 0;
    for row in rows {
        let Some(value) = listed.render(&row.row) else {
            continue;
        };
        let before = text.len();
        if count > 0 {
            text.push(b',');
        }
        // Writing a value into memory fails for no value that there is.
        if serde_json::to_writer(&mut text, &query.shown(value)).is_ok() {
            count += 1;
        } else {
            text.truncate(before);
        }
    }
    text.push(b']');
    (text, count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use serde_json::json;

    struct Numbers(Arc<AtomicUsize>);

    impl Listed for Numbers {
        type Row = i64;

        fn key(&self, row: &i64) -> (Name, Name) {
            ("v".into(), format!("n{row:03}").into())
        }

        fn field(&self, row: &i64, path: &str) -> Option<Value> {
            (path == "size").then(|| (-row).into())
        }

        fn render(&self, row: &i64) -> Option<Value> {
            self.0.fetch_add(1, Relaxed);
            Some(json!({"name": format!("n{row:03}"), "deep": {"odd": row % 2}, "size": -row}))
        }
    }

    /// The names of a list, and how many rows were rendered for it.
    async fn names(query: &str, rows: i64) -> (Value, Vec<String>, usize) {
        let rendered = Arc::new(AtomicUsize::new(0));
        let query = ListQuery::parse(&Params::parse(query)).unwrap();
        let response = reply(query, Numbers(Arc::clone(&rendered)), (0..rows).collect())
            .await
            .unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        let whole: Value = serde_json::from_slice(&body).unwrap();
        let items = whole.get("items").unwrap_or(&whole).as_array().unwrap();
        let names = items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect();
        (whole.clone(), names, rendered.load(Relaxed))
    }

    #[tokio::test]
    async fn only_what_is_on_the_page_is_rendered() {
        let (whole, names, rendered) = names("page=2&page_size=3&sort=size", 2000).await;
        assert_eq!(names, ["n1996", "n1995", "n1994"]);
        assert_eq!(rendered, 3);
        assert_eq!(whole["page_count"], 667);
        for (key, value) in [
            ("filtered_count", 2000),
            ("item_count", 3),
            ("page", 2),
            ("page_size", 3),
            ("total_count", 2000),
        ] {
            assert_eq!(whole[key], value, "{key}");
        }
    }

    #[tokio::test]
    async fn lists_are_sorted_filtered_and_reversed() {
        for (query, expected) in [
            ("", &["n000", "n001", "n002", "n003"][..]),
            ("sort=", &["n000", "n001", "n002", "n003"]),
            ("sort_reverse=true", &["n003", "n002", "n001", "n000"]),
            ("sort=deep.odd", &["n000", "n002", "n001", "n003"]),
            ("sort=missing", &["n000", "n001", "n002", "n003"]),
            ("name=n001", &["n000", "n001", "n002", "n003"]),
            ("page=1&name=N001", &["n001"]),
            ("page=1&name=N00[12]$&use_regex=true", &["n001", "n002"]),
            ("page=1&name=N00[12]$", &[]),
            ("page=2&page_size=4", &[]),
        ] {
            assert_eq!(names(query, 4).await.1, expected, "{query}");
        }
    }

    #[tokio::test]
    async fn what_is_no_page_is_refused() {
        for (query, error, reason) in [
            ("page=x", "bad_request", "Pagination parameters are invalid"),
            (
                "page=1&page_size=501",
                "invalid_pagination_parameters",
                "Invalid pagination parameters: page number 1, page size 501",
            ),
            (
                "page=0",
                "invalid_pagination_parameters",
                "Invalid pagination parameters: page number 0, page size 100",
            ),
        ] {
            let refused = ListQuery::parse(&Params::parse(query)).unwrap_err();
            assert_eq!(
                refused,
                ApiError::new(StatusCode::BAD_REQUEST, error, reason)
            );
        }
        let long = format!("page=1&name={}", "a".repeat(1025));
        assert!(ListQuery::parse(&Params::parse(&long)).is_err());
        assert!(ListQuery::parse(&Params::parse("page=1&name=(&use_regex=true")).is_err());

        let query = ListQuery::parse(&Params::parse("page=3&page_size=4")).unwrap();
        let refused = reply(query, Numbers(Arc::default()), vec![1, 2]).await;
        assert_eq!(
            refused.unwrap_err(),
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "page_out_of_range",
                "Page out of range, page: 3 page size: 4, len: 2"
            )
        );
    }
}
