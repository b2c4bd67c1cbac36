//! When credentials are asked for again. Pure: every time is an argument.

use std::time::Duration;

/// How often a file is read. Reading it costs less than any other way to learn that it changed.
pub(super) const FILE_READ_EVERY: Duration = Duration::from_secs(1);

/// At most twice this time before their end, credentials are renewed.
const LONGEST_LEAD: Duration = Duration::from_secs(60);
/// Credentials that live shorter are not renewed more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause after answers that helped nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// When credentials with this life are renewed: between one and two fifths of the life before its end, at most two minutes
/// before. `draw` (0 to 1) says where, so that the processes of a fleet do not ask in step.
pub(super) fn renew_after(life: Duration, draw: f64) -> Duration {
    let lead = (life / 5).min(LONGEST_LEAD);
    life.saturating_sub(lead.mul_f64(1.0 + draw)).max(SHORTEST)
}

/// The pause before a source is asked again, after so many answers in a row that helped nothing: 1 s, 2 s, 4 s, 8 s, 10 s.
pub(super) fn pause_after(fruitless: u32) -> Duration {
    SHORTEST.saturating_mul(1 << fruitless.min(4)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_renewed_before_their_end_and_not_in_step() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let seconds = Duration::from_secs;
        for (life, earliest, latest) in [
            (minutes(15), minutes(13), minutes(14)),
            (minutes(24 * 60), minutes(24 * 60 - 2), minutes(24 * 60 - 1)),
            (seconds(100), seconds(60), seconds(80)),
            (seconds(5), seconds(3), seconds(4)),
            (seconds(1), seconds(1), seconds(1)),
            (Duration::ZERO, seconds(1), seconds(1)),
        ] {
            assert_eq!((renew_after(life, 1.0), renew_after(life, 0.0)), (earliest, latest), "{life:?}");
            assert!(life <= SHORTEST || renew_after(life, 0.5) < life);
        }
    }

    #[test]
    fn the_pause_grows_while_the_answers_help_nothing() {
        let pauses: Vec<u64> = (0..6).map(|fruitless| pause_after(fruitless).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
