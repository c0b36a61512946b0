//! How fast a node that catches up is sent what it lacks: so slowly that requests have disk, network and processor to
//! themselves for most of the time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Bytes in a second at most: 1 GiB takes 51 s.
pub const BYTES_PER_SECOND: f64 = (20 << 20) as f64;
/// What may be sent at once after a pause, as the time that it takes at this pace: what clients write does not wait.
const BURST: Duration = Duration::from_millis(100);
/// Whoever has been held back for so long without a pause is behind a load that is faster than the pace, and would never
/// catch up: the pace doubles each time.
const DOUBLED_AFTER: Duration = Duration::from_secs(60);

/// The pace of one stream.
#[derive(Default)]
pub struct Pace {
    /// When all that was sent would have been sent at this pace.
    due: Option<Instant>,
    /// Since when it is held back without a pause.
    held_back_since: Option<Instant>,
}

impl Pace {
    /// Waits until so many more bytes may be sent.
    pub async fn pass(&mut self, bytes: usize) {
        let now = Instant::now();
        let due = self.due.filter(|due| *due > now).unwrap_or_else(|| {
            self.held_back_since = None;
            now
        });
        let due = due + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second(now));
        self.due = Some(due);
        if due > now + BURST {
            self.held_back_since.get_or_insert(now);
            sleep_until(due - BURST).await;
        }
    }

    fn bytes_per_second(&self, now: Instant) -> f64 {
        let held_back = self.held_back_since.map_or(Duration::ZERO, |since| now - since);
        let doubled = held_back.as_secs() / DOUBLED_AFTER.as_secs();
        BYTES_PER_SECOND * 2_f64.powf(doubled as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE_BYTES: usize = 256 << 10;

    /// Passes that much, and gives the seconds it takes.
    async fn seconds_for(pace: &mut Pace, mib: usize) -> f64 {
        let began = Instant::now();
        for _ in 0..mib * 4 {
            pace.pass(PIECE_BYTES).await;
        }
        began.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn much_takes_its_time_and_twice_as_little_with_every_minute() {
        let mut pace = Pace::default();
        let first = seconds_for(&mut pace, 1200).await;
        assert!((59.0..60.5).contains(&first), "{first}");
        let second = seconds_for(&mut pace, 2400).await;
        assert!((59.0..61.0).contains(&second), "{second}");
        // After a pause it begins anew.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let anew = seconds_for(&mut pace, 200).await;
        assert!((9.8..10.1).contains(&anew), "{anew}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_slower_than_the_pace_never_waits() {
        let mut pace = Pace::default();
        for _ in 0..1000 {
            let began = Instant::now();
            pace.pass(1 << 20).await;
            assert_eq!(began.elapsed(), Duration::ZERO);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
}
