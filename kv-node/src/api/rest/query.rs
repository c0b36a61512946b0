//! The query of a request: only parameters that are known, each once, each understood.

use bytes::Bytes;
use http::{HeaderMap, Uri};

use super::text::percent_decode;
use crate::api::{calls::Consistency, problem::Problem};

/// Keys in a page of a listing, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Keys in a page of a listing, at most.
const LIMIT_MAX: usize = 1000;
/// The header that may stand for `?consistency=`.
const CONSISTENCY_HEADER: &str = "quorate-consistency";

/// What a query may say; a request takes some of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// `consistency`, if given.
    pub(super) consistency: Option<Consistency>,
    /// `rev`: a revision of the past, 1 or more.
    pub(super) rev: Option<i64>,
    /// `prev`: answer with what the key held before.
    pub(super) prev: bool,
    /// `prefix`: any bytes.
    pub(super) prefix: Option<Bytes>,
    /// `limit`, 1 to [`LIMIT_MAX`].
    limit: Option<usize>,
    /// `cursor`, as text.
    pub(super) cursor: Option<String>,
    /// `keys_only`: leave the values out.
    pub(super) keys_only: bool,
}

impl Query {
    /// Reads the query of a request that takes the parameters `known`.
    ///
    /// # Errors
    /// 400 with what is wrong.
    pub(super) fn parse(uri: &Uri, known: &'static [&'static str]) -> Result<Query, Problem> {
        let mut query = Query::default();
        let mut seen = Vec::with_capacity(known.len());
        for pair in uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                return Err(unknown(name, known));
            };
            if seen.contains(&name) {
                return Err(bad(format!("query parameter {name} is given twice")));
            }
            seen.push(name);
            query.set(name, value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, encoded: &str) -> Result<(), Problem> {
        // In a query, unlike in a path, + is a space: so do forms and their libraries write it.
        let value = percent_decode(&encoded.replace('+', "%20"))
            .ok_or_else(|| bad(format!("a % in {name} must be followed by two hex digits")))?;
        let text = || str::from_utf8(&value).map_err(|_| bad(format!("{name} must be text")));
        match name {
            "consistency" => self.consistency = Some(consistency(text()?)?),
            "rev" => self.rev = Some(number(name, text()?, 1, i64::MAX)?),
            "prev" => self.prev = flag(name, text()?)?,
            "prefix" => self.prefix = Some(value.into()),
            "limit" => self.limit = Some(number(name, text()?, 1, LIMIT_MAX)?),
            "cursor" => self.cursor = Some(text()?.to_owned()),
            "keys_only" => self.keys_only = flag(name, text()?)?,
            _ => unreachable!("a parameter named as known is read here: {name}"),
        }
        Ok(())
    }

    /// What the read may see: the query decides, else the header, else it is linearizable.
    ///
    /// # Errors
    /// 400 for a header that says neither.
    pub(super) fn consistency(&self, headers: &HeaderMap) -> Result<Consistency, Problem> {
        match (self.consistency, headers.get(CONSISTENCY_HEADER)) {
            (Some(said), _) => Ok(said),
            (None, Some(header)) => consistency(header.to_str().unwrap_or_default()),
            (None, None) => Ok(Consistency::default()),
        }
    }

    /// Keys in a page.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT)
    }
}

fn bad(message: String) -> Problem {
    Problem::bad_request("bad_query", message)
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    bad(format!(
        "unknown query parameter {name:?}; known here: {}",
        known.join(", ")
    ))
}

fn consistency(text: &str) -> Result<Consistency, Problem> {
    match text {
        "linearizable" => Ok(Consistency::Linearizable),
        "serializable" => Ok(Consistency::Serializable),
        _ => Err(bad("consistency must be linearizable or serializable".into())),
    }
}

fn flag(name: &str, text: &str) -> Result<bool, Problem> {
    match text {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad(format!("{name} must be true or false"))),
    }
}

fn number<N>(name: &str, text: &str, min: N, max: N) -> Result<N, Problem>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    match text.parse::<N>() {
        Ok(number) if number >= min && number <= max => Ok(number),
        _ => Err(bad(format!("{name} must be a whole number from {min} to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &[&str] = &[
        "consistency",
        "rev",
        "prev",
        "prefix",
        "limit",
        "cursor",
        "keys_only",
    ];

    fn parse(query: &str) -> Result<Query, Problem> {
        Query::parse(&format!("/v1/kv/?{query}").parse().unwrap(), ALL)
    }

    #[test]
    fn understood() {
        assert_eq!(parse("").unwrap(), Query::default());
        let query =
            parse("rev=7&prev&prefix=a%2Fb+%ff&limit=5&cursor=x&keys_only=false&consistency=serializable");
        let expected = Query {
            consistency: Some(Consistency::Serializable),
            rev: Some(7),
            prev: true,
            prefix: Some(Bytes::from_static(b"a/b \xff")),
            limit: Some(5),
            cursor: Some("x".into()),
            keys_only: false,
        };
        assert_eq!(query.unwrap(), expected);
        assert_eq!(parse("&limit=1000&").unwrap().limit(), 1000);
        assert_eq!(parse("").unwrap().limit(), LIMIT_DEFAULT);
    }

    #[test]
    fn refused() {
        for query in [
            "revision=1",
            "rev",
            "rev=",
            "rev=0",
            "rev=-1",
            "rev=x",
            "rev=9223372036854775808",
            "rev=1&rev=1",
            "limit=0",
            "limit=1001",
            "limit=1.5",
            "prefix=%",
            "prefix=%zz",
            "consistency=eventual",
            "consistency",
            "prev=maybe",
            "cursor=%ff",
            "Rev=1",
            "=",
            "=1",
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn what_is_known_here_is_told() {
        let uri: Uri = "/v1/kv/a?prev=1".parse().unwrap();
        let problem = format!("{:?}", Query::parse(&uri, &["rev", "consistency"]).unwrap_err());
        assert!(problem.contains("known here: rev, consistency"), "{problem}");
    }

    #[test]
    fn the_query_goes_before_the_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            parse("").unwrap().consistency(&headers).unwrap(),
            Consistency::Linearizable
        );
        headers.insert(CONSISTENCY_HEADER, "serializable".parse().unwrap());
        assert_eq!(
            parse("").unwrap().consistency(&headers).unwrap(),
            Consistency::Serializable
        );
        let query = parse("consistency=linearizable").unwrap();
        assert_eq!(query.consistency(&headers).unwrap(), Consistency::Linearizable);
        headers.insert(CONSISTENCY_HEADER, "stale".parse().unwrap());
        assert!(parse("").unwrap().consistency(&headers).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(query in "[ -~]{0,40}") {
            if let Ok(uri) = format!("/?{query}").parse::<Uri>() {
                let _ = Query::parse(&uri, ALL);
            }
        }

        #[test]
        fn any_prefix_can_be_said(prefix: Vec<u8>) {
            let encoded: String = prefix.iter().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(parse(&format!("prefix={encoded}")).unwrap().prefix, Some(Bytes::from(prefix)));
        }
    }
}
