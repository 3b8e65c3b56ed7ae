//! An answer in parts, and its reassembly. Pure.

use bytes::{Bytes, BytesMut};

use super::{MAX_PART_BYTES, MAX_PARTS};

/// Header: `<answer>:<part>/<parts>`, parts from 1. The first piece tells several answerers of one question apart.
pub(super) const PART: &str = "Keelson-Part";

/// Cuts an answer; there is at least one part. None when it has too many.
pub(super) fn cut(answer: &Bytes) -> Option<Vec<Bytes>> {
    if answer.len() > MAX_PART_BYTES * MAX_PARTS {
        return None;
    }
    let starts = (0..answer.len().max(1)).step_by(MAX_PART_BYTES);
    Some(starts.map(|start| answer.slice(start..answer.len().min(start + MAX_PART_BYTES))).collect())
}

/// The value of [`PART`] for part `index` of `count`.
pub(super) fn label(answer: &str, index: usize, count: usize) -> String {
    format!("{answer}:{}/{count}", index + 1)
}

/// Parts that have arrived, of the answer whose part arrived first.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    answer: Option<String>,
    parts: Vec<Bytes>,
}

impl Assembly {
    /// Takes one message; the whole answer, once its last part is there.
    ///
    /// # Errors
    /// When a part of the same answer is missing before this one, or the label is none.
    pub fn add(&mut self, label: Option<&str>, payload: Bytes) -> Result<Option<Bytes>, &'static str> {
        // Someone else's service answers in one message without a label.
        let Some(label) = label else { return Ok(Some(payload)) };
        let (answer, part, count) = parse(label).ok_or("a part of the answer has a label that is none")?;
        if self.answer.get_or_insert_with(|| answer.to_owned()) != answer {
            return Ok(None);
        }
        if part != self.parts.len() + 1 || part > count {
            return Err("a part of the answer is missing");
        }
        self.parts.push(payload);
        Ok((part == count).then(|| self.whole()))
    }

    fn whole(&mut self) -> Bytes {
        match self.parts.as_slice() {
            [single] => single.clone(),
            parts => parts
                .iter()
                .fold(BytesMut::new(), |mut whole, part| {
                    whole.extend_from_slice(part);
                    whole
                })
                .freeze(),
        }
    }
}

fn parse(label: &str) -> Option<(&str, usize, usize)> {
    let (answer, place) = label.rsplit_once(':')?;
    let (part, count) = place.split_once('/')?;
    let (part, count) = (part.parse().ok()?, count.parse().ok()?);
    (count <= MAX_PARTS).then_some((answer, part, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_put_together_again() {
        for len in [0, 1, MAX_PART_BYTES, MAX_PART_BYTES + 1, 3 * MAX_PART_BYTES] {
            let answer = Bytes::from((0..len).map(|byte| byte as u8).collect::<Vec<_>>());
            let parts = cut(&answer).unwrap_or_default();
            assert!(parts.iter().all(|part| part.len() <= MAX_PART_BYTES));
            let mut assembly = Assembly::default();
            let mut whole = None;
            for (index, part) in parts.iter().enumerate() {
                assert_eq!(whole, None);
                whole = assembly.add(Some(&label("a", index, parts.len())), part.clone()).unwrap_or_default();
                assert_eq!(
                    assembly.add(Some("other:1/1"), Bytes::new()),
                    Ok(None),
                    "another's answer was mixed in"
                );
            }
            assert_eq!(whole, Some(answer), "{len} bytes");
        }
    }

    #[test]
    fn a_missing_part_is_an_error_and_not_a_shorter_answer() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(Some("a:1/3"), Bytes::new()), Ok(None));
        assert!(assembly.add(Some("a:3/3"), Bytes::new()).is_err());
        assert!(Assembly::default().add(Some("nonsense"), Bytes::new()).is_err());
    }

    #[test]
    fn an_answer_has_a_bound() {
        assert!(cut(&vec![0; MAX_PART_BYTES * MAX_PARTS + 1].into()).is_none());
    }
}
