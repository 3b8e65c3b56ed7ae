//! Which route a path belongs to. A log knows paths and no routes; where paths hold identifiers, templates keep the number of routes low.

use std::convert::Infallible;
use std::str::FromStr;

/// A template such as `/videos/:id` or `/static/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
}

impl FromStr for Template {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self { text: text.into() })
    }
}

/// The first template that the path matches, else the path itself.
pub fn route<'a>(templates: &'a [Template], path: &'a str) -> &'a str {
    templates.iter().find(|template| template.matches(path)).map_or(path, |template| &template.text)
}

impl Template {
    /// `:name` stands for any one segment, and a last `*` for all that follows.
    fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        let mut wanted = self.text.split('/').peekable();
        while let Some(part) = wanted.next() {
            match segments.next() {
                Some(_) if part == "*" && wanted.peek().is_none() => return true,
                Some(segment) if part == segment || (part.starts_with(':') && !segment.is_empty()) => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_template_that_matches_names_the_route() {
        let templates: Vec<Template> = ["/videos/new", "/videos/:id", "/videos/:id/parts/:part", "/static/*"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        for (path, expected) in [
            ("/videos/new", "/videos/new"),
            ("/videos/7", "/videos/:id"),
            ("/videos/", "/videos/"),
            ("/videos", "/videos"),
            ("/videos/7/parts/2", "/videos/:id/parts/:part"),
            ("/videos/7/parts", "/videos/7/parts"),
            ("/videos/7/", "/videos/7/"),
            ("/static/css/a.css", "/static/*"),
            ("/static/", "/static/*"),
            ("/static", "/static"),
            ("/other", "/other"),
        ] {
            assert_eq!(route(&templates, path), expected, "{path}");
        }
    }
}
