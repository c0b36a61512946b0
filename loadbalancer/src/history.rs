//! Requests per second of the last minute, for the stats page.

/// Seconds that are kept.
pub const SECONDS: usize = 60;

/// A ring of the last [`SECONDS`] figures.
#[derive(Debug, Default)]
pub struct History {
    last_total: u64,
    per_second: std::collections::VecDeque<u32>,
}

impl History {
    /// Takes in the running total at the end of a second.
    pub fn sample(&mut self, total: u64) {
        if self.per_second.len() == SECONDS {
            self.per_second.pop_front();
        }
        let delta = total.saturating_sub(self.last_total);
        self.per_second
            .push_back(u32::try_from(delta).unwrap_or(u32::MAX));
        self.last_total = total;
    }

    /// The figures, oldest first.
    #[must_use]
    pub fn per_second(&self) -> Vec<u32> {
        self.per_second.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_minute() {
        let mut history = History::default();
        for second in 1..=100u64 {
            history.sample(second * second);
        }
        let kept = history.per_second();
        assert_eq!(kept.len(), SECONDS);
        assert_eq!(kept.first().copied(), Some(41 * 41 - 40 * 40));
        assert_eq!(kept.last().copied(), Some(100 * 100 - 99 * 99));
    }
}
