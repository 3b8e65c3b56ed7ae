//! Keeps secrets out of what others say: a receiver's answer may hold what it was sent, and is told in logs, dead letters and answers.

use keelson_kit::config::{REDACTED, Secret};
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::http::Post;

/// What is shorter keeps nobody out, and would tear holes into every answer.
const LEAST_BYTES: usize = 4;
/// The secrets of a request, the longest first.
pub(super) struct Veil(Vec<String>);

impl Veil {
    /// What a request holds that nobody else is to see.
    pub fn over<B>(post: &Post<'_, B>) -> Self {
        let given = [post.token, post.hidden].into_iter().flatten().map(|secret| secret.expose().to_owned());
        let mut secrets: Vec<String> = given.chain(of_address(post.url)).collect();
        let decoded =
            |secret: &String| percent_decode_str(secret).decode_utf8().ok().map(|text| text.into_owned());
        secrets.extend(secrets.iter().filter_map(decoded).collect::<Vec<_>>());
        secrets.retain(|secret| secret.len() >= LEAST_BYTES);
        secrets.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        Self(secrets)
    }

    /// A text without them.
    pub fn drawn_over(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }

    /// Bytes of the longest.
    pub fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len)
    }
}

/// The parts of an address that may be secret: all but scheme, host and port.
fn of_address(url: &Secret) -> Vec<String> {
    let Ok(url) = Url::parse(url.expose()) else { return Vec::new() };
    let segments = url.path_segments().into_iter().flatten();
    let values = url.query().into_iter().flat_map(|query| query.split('&')).map(value);
    let user = [Some(url.username()), url.password()].into_iter().flatten();
    segments.chain(values).chain(user).map(str::to_owned).collect()
}

fn value(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_what_was_sent_is_told() {
        let secret = |text: &str| Secret::from(text.to_owned());
        let url = secret("https://ada:p%40ssword@hooks.example/services/T0001/hunter2?key=abcdef&x=1");
        let (token, hidden) = (secret("bearer-token"), secret("routing-key"));
        let veil =
            Veil::over(&Post { url: &url, token: Some(&token), key: None, body: &(), hidden: Some(&hidden) });
        for (said, told) in [
            (
                r"no such hook https:\/\/hooks.example\/services\/T0001\/hunter2",
                r"no such hook https:\/\/hooks.example\/<redacted>\/<redacted>\/<redacted>",
            ),
            (
                "/services/T0001/hunter2?key=abcdef&x=1 is gone",
                "/<redacted>/<redacted>/<redacted>?key=<redacted>&x=1 is gone",
            ),
            ("p%40ssword or p@ssword is wrong", "<redacted> or <redacted> is wrong"),
            ("bearer-token, routing-key", "<redacted>, <redacted>"),
            ("channel_is_archived", "channel_is_archived"),
        ] {
            assert_eq!(veil.drawn_over(said), told);
        }
        assert_eq!(veil.longest(), "bearer-token".len());
    }
}
