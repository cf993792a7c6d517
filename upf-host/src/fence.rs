//! Owns the answers that wait for the lcores: until each has done what it was asked to, and has handed what that sent
//! to its ports. So upf-ctl knows when a session's buffered packets are gone, and may let newer ones take another way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use upf_model::batch::FromHost;

/// Passed once every lcore has come by. Clones are the same fence.
#[derive(Debug, Clone)]
pub struct Fence(Arc<AtomicUsize>);

impl Fence {
    /// For so many lcores.
    pub fn new(lcores: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(lcores)))
    }

    /// Called by each lcore once.
    pub fn pass(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Whether every lcore has come by.
    pub fn is_passed(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// Answers that wait behind fences.
#[derive(Default)]
pub struct LateAnswers(Vec<LateAnswer>);

struct LateAnswer {
    fence: Fence,
    deadline: Instant,
    answer: FromHost,
}

impl LateAnswers {
    /// Keep an answer until the fence is passed, `grace` at most.
    pub fn hold(&mut self, fence: Fence, grace: Duration, answer: FromHost) {
        let deadline = Instant::now() + grace;
        self.0.push(LateAnswer {
            fence,
            deadline,
            answer,
        });
    }

    /// Answers whose time has come.
    pub fn take_due(&mut self) -> Vec<FromHost> {
        let due = |late: &mut LateAnswer| {
            let overdue = Instant::now() > late.deadline;
            if overdue && !late.fence.is_passed() {
                tracing::error!("an lcore has not drained what it had buffered in time");
            }
            overdue || late.fence.is_passed()
        };
        self.0.extract_if(.., due).map(|late| late.answer).collect()
    }

    /// Nobody waits for them any more.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> FromHost {
        FromHost::Hello {
            host: 1,
            max_sessions: 1,
        }
    }

    #[test]
    fn an_answer_waits_until_the_last_lcore_has_come_by() {
        let (fence, mut answers) = (Fence::new(2), LateAnswers::default());
        answers.hold(fence.clone(), Duration::from_secs(3_600), hello());
        fence.pass();
        assert_eq!(answers.take_due(), []);
        fence.pass();
        assert_eq!(answers.take_due(), [hello()]);
        assert_eq!(answers.take_due(), []);
    }

    #[test]
    fn an_answer_does_not_wait_for_a_stuck_lcore_for_ever() {
        let mut answers = LateAnswers::default();
        answers.hold(Fence::new(1), Duration::ZERO, hello());
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(answers.take_due(), [hello()]);
    }
}
