//! What may be called at a service: methods and paths.

/// One line of an allow-list: `GET /v1/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// None is any.
    method: Option<String>,
    segments: Vec<Segment>,
    /// Whether anything may follow.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Is(String),
    Any,
}

/// Longest path with its query, in bytes.
const MOST_PATH_BYTES: usize = 8_192;
/// What may be asked: the methods of RFC 9110 and PATCH, without CONNECT and TRACE.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"];

impl Rule {
    /// Reads a line: a method or `*`, and a path in which `*` stands for one segment, at the end for whatever follows.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no rule such as \"GET /v1/*\": {why}");
        let (method, path) = text.split_once(' ').ok_or_else(|| wrong("it has a method and a path"))?;
        let method = match method {
            "*" => None,
            known if METHODS.contains(&known) => Some(known.to_owned()),
            _ => return Err(wrong(&format!("the method is * or one of {}", METHODS.join(", ")))),
        };
        let rest = path.strip_prefix('/').ok_or_else(|| wrong("the path begins with /"))?;
        check(path).map_err(|why| wrong(&why))?;
        if path.contains('?') {
            return Err(wrong("a query is always allowed, and not named"));
        }
        let mut segments: Vec<&str> = rest.split('/').collect();
        let open = segments.last() == Some(&"*");
        if open {
            segments.pop();
        }
        let segments = segments.into_iter().map(|segment| match segment {
            "*" => Segment::Any,
            text => Segment::Is(text.to_owned()),
        });
        Ok(Self { method, segments: segments.collect(), open })
    }

    /// Whether it allows this. The path has been checked.
    #[must_use]
    pub fn allows(&self, method: &str, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let long_enough = match self.open {
            true => segments.len() > self.segments.len(),
            false => segments.len() == self.segments.len(),
        };
        let fits = |(rule, segment): (&Segment, &&str)| match rule {
            Segment::Any => !segment.is_empty(),
            Segment::Is(text) => text == segment,
        };
        self.method.as_deref().is_none_or(|known| known == method)
            && long_enough
            && self.segments.iter().zip(&segments).all(fits)
    }
}

/// Whether a path is one that every server reads alike. What some would resolve or decode could lead around the allow-list.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &str) -> Result<(), String> {
    if path.len() > MOST_PATH_BYTES {
        return Err(format!("it has more than {MOST_PATH_BYTES} bytes"));
    }
    if !path.starts_with('/') || path.starts_with("//") {
        return Err("it begins with one /".to_owned());
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains(['\\', '#']) {
        return Err("it has characters that have to be percent-encoded".to_owned());
    }
    let only_path = path.split('?').next().unwrap_or_default();
    let lower = only_path.to_ascii_lowercase();
    if ["%2f", "%5c", "%2e", "%25", "%00"].iter().any(|escape| lower.contains(escape)) {
        return Err("an escaped /, \\, . or % is read in different ways".to_owned());
    }
    if only_path.contains("//")
        || only_path.contains(';')
        || only_path.split('/').any(|segment| matches!(segment, "." | ".."))
    {
        return Err("it has a segment that is empty, a dot, or has parameters".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_allow_what_they_say() {
        for (rule, method, path, allowed) in [
            ("GET /v1/*", "GET", "/v1/videos", true),
            ("GET /v1/*", "GET", "/v1/videos/42?full=1", true),
            ("GET /v1/*", "GET", "/v1/", true),
            ("GET /v1/*", "GET", "/v1", false),
            ("GET /v1/*", "GET", "/v12/videos", false),
            ("GET /v1/*", "GET", "/V1/videos", false),
            ("GET /v1/*", "POST", "/v1/videos", false),
            ("GET /v1/*", "get", "/v1/videos", false),
            ("* /search", "POST", "/search?q=a/b", true),
            ("* /search", "POST", "/search/x", false),
            ("GET /*/title", "GET", "/42/title", true),
            ("GET /*/title", "GET", "/42/7/title", false),
            ("GET /*/title", "GET", "//title", false),
            ("GET /*", "GET", "/", true),
            ("GET /", "GET", "/", true),
            ("GET /", "GET", "/a", false),
        ] {
            assert_eq!(Rule::parse(rule).unwrap().allows(method, path), allowed, "{rule}: {method} {path}");
        }
    }

    #[test]
    fn rules_without_meaning_are_refused() {
        for rule in [
            "",
            "GET",
            "/v1",
            "GET v1",
            "FETCH /v1",
            "CONNECT /",
            "TRACE /",
            "GET /a/../b",
            "GET /a?b",
            "GET  /a",
        ] {
            assert!(Rule::parse(rule).is_err(), "{rule}");
        }
    }

    #[test]
    fn paths_that_lead_around_a_list_are_refused() {
        for path in [
            "",
            "v1",
            "//evil.example/v1",
            "http://evil.example/v1",
            "/v1/../admin",
            "/v1/./a",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1%2fadmin",
            "/v1%5Cadmin",
            "/v1\\admin",
            "/v1/a b",
            "/v1/é",
            "/v1/a#b",
            "/v1//a",
            "/v1/%252e%252e/a",
            "/v1/..;/admin",
            "/v1/a\r\nx: y",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
        for path in ["/", "/v1/videos/42", "/v1/a%20b?q=%2F..//#".trim_end_matches('#'), "/v1/"] {
            assert!(check(path).is_ok(), "{path}");
        }
    }
}
