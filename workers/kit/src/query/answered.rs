//! Which questions were answered of late. An asker who hears nothing puts its question again, and then several of it may wait where each answer takes its time:
//! one of them is answered.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many are remembered: more than wait at one desk when each asker has put its question a few times.
const MOST: usize = 1024;

/// The questions that have their answer.
#[derive(Debug, Default)]
pub(super) struct Answered(Mutex<Questions>);

#[derive(Debug, Default)]
struct Questions {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Answered {
    /// Whether a question has its answer.
    pub fn has(&self, question: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.contains(question)
    }

    /// Notes that it has. The oldest is forgotten.
    pub fn note(&self, question: String) {
        let mut questions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !questions.known.insert(question.clone()) {
            return;
        }
        questions.order.push_back(question);
        if questions.order.len() > MOST
            && let Some(oldest) = questions.order.pop_front()
        {
            questions.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let answered = Answered::default();
        for question in 0..=MOST {
            answered.note(question.to_string());
            answered.note(question.to_string());
        }
        assert!(!answered.has("0") && answered.has("1") && answered.has(&MOST.to_string()));
    }
}
