//! Which namespaces are restored, and under which names. Pure.

use std::collections::BTreeMap;

use crate::layout;

/// The longest name of a database, in bytes.
const LONGEST_DATABASE: usize = 63;
/// The longest `database.collection`, in bytes.
const LONGEST_NAMESPACE: usize = 255;

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    only: Vec<Pattern>,
    renames: Vec<(Pattern, Pattern)>,
}

/// A namespace, in which one `*` stands for anything.
#[derive(Debug, Clone, PartialEq)]
struct Pattern {
    text: String,
    before: String,
    /// None when there is no `*`.
    after: Option<String>,
}

impl Selection {
    /// Reads what was asked for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(namespaces: &[String], rename: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let (mut selection, mut errors) = (Self::default(), Vec::new());
        for text in namespaces {
            match Pattern::parse(text) {
                Ok(pattern) => selection.only.push(pattern),
                Err(error) => errors.push(format!("namespaces: {error}")),
            }
        }
        for (from, to) in rename {
            match (Pattern::parse(from), Pattern::parse(to)) {
                (Ok(from), Ok(to)) if from.after.is_some() == to.after.is_some() => {
                    selection.renames.push((from, to));
                }
                (Ok(_), Ok(_)) => {
                    errors.push(format!("rename: {from:?} and {to:?}: both have a * or none has"))
                }
                (from, to) => {
                    errors.extend(
                        [from.err(), to.err()].into_iter().flatten().map(|error| format!("rename: {error}")),
                    );
                }
            }
        }
        if errors.is_empty() { Ok(selection) } else { Err(errors) }
    }

    /// Whether everything is restored under its own name.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.only.is_empty() && self.renames.is_empty()
    }

    /// Whether anything gets another name.
    #[must_use]
    pub fn renames(&self) -> bool {
        !self.renames.is_empty()
    }

    /// Where a collection goes; none when it is not asked for. The buckets of a time series go where it goes.
    #[must_use]
    pub fn target(&self, database: &str, collection: &str) -> Option<(String, String)> {
        if let Some(series) = collection.strip_prefix(layout::BUCKETS) {
            let (database, series) = self.target(database, series)?;
            return Some((database, format!("{}{series}", layout::BUCKETS)));
        }
        let namespace = format!("{database}.{collection}");
        let asked =
            self.only.is_empty() || self.only.iter().any(|pattern| pattern.captured(&namespace).is_some());
        let renamed = self.renames.iter().find_map(|(from, to)| Some(to.filled(from.captured(&namespace)?)));
        let target = asked.then(|| renamed.unwrap_or(namespace))?;
        target.split_once('.').map(|(database, collection)| (database.to_owned(), collection.to_owned()))
    }

    /// What was asked for and is in no namespace of a backup.
    #[must_use]
    pub fn unmatched<'a>(&self, namespaces: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
        let patterns = self.only.iter().chain(self.renames.iter().map(|(from, _)| from));
        let idle =
            patterns.filter(|pattern| !namespaces.clone().any(|name| pattern.captured(name).is_some()));
        idle.map(|pattern| format!("nothing in the backup is called {:?}", pattern.text)).collect()
    }
}

/// What is wrong with the name of a collection that is to be made.
#[must_use]
pub fn bad_name(database: &str, collection: &str) -> Option<String> {
    let namespace = format!("{database}.{collection}");
    let bad = if database.is_empty()
        || database.len() > LONGEST_DATABASE
        || database.contains(['/', '\\', ' ', '"', '$', '\0'])
    {
        "the database cannot be called so"
    } else if collection.is_empty() || collection.starts_with('.') || collection.contains(['$', '\0']) {
        "the collection cannot be called so"
    } else if namespace.len() > LONGEST_NAMESPACE {
        "it is longer than 255 bytes"
    } else if matches!(database, "local" | "config") {
        "this database is MongoDB's own"
    } else {
        return None;
    };
    Some(format!("{namespace:?}: {bad}"))
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('.') {
            return Err(format!(
                "{text:?} is no namespace: write database.collection, or database.* for all of a database"
            ));
        }
        let (before, after) = match text.split_once('*') {
            Some((_, after)) if after.contains('*') => return Err(format!("{text:?} has more than one *")),
            Some((before, after)) => (before, Some(after.to_owned())),
            None => (text, None),
        };
        Ok(Self { text: text.to_owned(), before: before.to_owned(), after })
    }

    /// What the `*` stands for in a namespace; none when they do not match.
    fn captured<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        let rest = namespace.strip_prefix(&self.before)?;
        match &self.after {
            Some(after) => rest.strip_suffix(after.as_str()),
            None => rest.is_empty().then_some(""),
        }
    }

    fn filled(&self, captured: &str) -> String {
        match &self.after {
            Some(after) => format!("{}{captured}{after}", self.before),
            None => self.before.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(only: &[&str], rename: &[(&str, &str)]) -> Result<Selection, Vec<String>> {
        let only: Vec<String> = only.iter().map(|text| (*text).to_owned()).collect();
        Selection::parse(
            &only,
            &rename.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
        )
    }

    fn target(selection: &Selection, namespace: &str) -> Option<String> {
        let (database, collection) = namespace.split_once('.').unwrap();
        selection
            .target(database, collection)
            .map(|(database, collection)| format!("{database}.{collection}"))
    }

    #[test]
    fn namespaces_are_selected_and_renamed() {
        let cases = [
            (&[][..], &[][..], "a.b", Some("a.b")),
            (&["a.b"], &[], "a.b", Some("a.b")),
            (&["a.b"], &[], "a.bc", None),
            (&["a.*"], &[], "a.b.c", Some("a.b.c")),
            (&["a.*"], &[], "ab.c", None),
            (&["*.users"], &[], "x.users", Some("x.users")),
            (&[], &[("a.*", "z.*")], "a.b", Some("z.b")),
            (&[], &[("a.*", "z.*")], "c.b", Some("c.b")),
            (&["a.*"], &[("a.*", "z.old_*")], "a.b", Some("z.old_b")),
            (&["c.*"], &[("a.*", "z.*")], "a.b", None),
            (&[], &[("a.b", "a.c")], "a.b", Some("a.c")),
            (&["a.t"], &[("a.t", "z.s")], "a.system.buckets.t", Some("z.system.buckets.s")),
        ];
        for (only, rename, namespace, expected) in cases {
            let selection = selection(only, rename).unwrap();
            assert_eq!(target(&selection, namespace).as_deref(), expected, "{only:?} {rename:?} {namespace}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_words_and_all_at_once() {
        let errors = selection(&["a", "a.*.*"], &[("b", "c.*"), ("a.*", "b.c")]).unwrap_err();
        for says in ["\"a\" is no namespace", "more than one *", "\"b\" is no namespace", "both have a *"] {
            assert!(errors.iter().any(|error| error.contains(says)), "{says}: {errors:?}");
        }
        assert_eq!(errors.len(), 4);
    }

    #[test]
    fn what_matches_nothing_is_named() {
        let selection = selection(&["a.b", "x.*"], &[("a.*", "c.*"), ("y.z", "y.q")]).unwrap();
        let unmatched = selection.unmatched(["a.b", "a.c"].into_iter());
        assert_eq!(unmatched.len(), 2, "{unmatched:?}");
        assert!(unmatched[0].contains("x.*") && unmatched[1].contains("y.z"));
    }

    #[test]
    fn names_that_mongodb_does_not_take_are_refused() {
        let long = "x".repeat(64);
        for (database, collection) in [
            ("", "a"),
            ("a b", "c"),
            ("a/b", "c"),
            (long.as_str(), "c"),
            ("a", ""),
            ("a", ".b"),
            ("a", "b$"),
            ("local", "x"),
        ] {
            assert!(bad_name(database, collection).is_some(), "{database}.{collection}");
        }
        assert_eq!(bad_name("click", "a/b c"), None);
        assert!(bad_name("click", &"x".repeat(250)).is_some());
    }
}
