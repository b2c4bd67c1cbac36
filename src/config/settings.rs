//! The configuration once its values were checked. Every error names its field.

use std::{num::NonZeroU32, ops::Deref, time::Duration};

use super::{Config, Consistency, NodeConfig};
use crate::{Error, topology::LagLimit};

/// A configuration whose values can work. The nodes are left out, because they hold passwords and open pools.
#[derive(Clone, Debug)]
pub(crate) struct Settings(Config);

const DEFAULT_UNKNOWN_OUTCOME_HOLD: Duration = Duration::from_secs(30);
/// SeaORM's own `acquire_timeout`.
const DEFAULT_PRIMARY_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Settings {
    /// [`Config::unknown_outcome_hold`], or its default.
    pub(crate) fn unknown_outcome_hold(&self) -> Duration {
        self.0.unknown_outcome_hold.unwrap_or(DEFAULT_UNKNOWN_OUTCOME_HOLD)
    }

    /// [`Config::primary_connect_timeout`], or its default.
    pub(crate) fn primary_connect_timeout(&self) -> Duration {
        self.0.primary_connect_timeout.unwrap_or(DEFAULT_PRIMARY_CONNECT_TIMEOUT)
    }

    pub(crate) fn lag_limit(&self) -> LagLimit {
        LagLimit { time: self.max_lag, bytes: self.max_lag_bytes }
    }

    /// [`Config::max_questions_per_second`], which was checked.
    pub(crate) fn max_questions_per_second(&self) -> NonZeroU32 {
        NonZeroU32::new(self.0.max_questions_per_second).unwrap_or(NonZeroU32::MIN)
    }
}

impl Deref for Settings {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl TryFrom<&Config> for Settings {
    type Error = Error;

    fn try_from(config: &Config) -> Result<Self, Error> {
        if let Some(problem) = &config.problem {
            return Err(Error::config(problem.path(), &problem.text));
        }
        for (field, duration) in [
            ("read_selection_timeout", Some(config.read_selection_timeout)),
            ("connect_timeout", Some(config.connect_timeout)),
            ("primary_connect_timeout", config.primary_connect_timeout),
            ("probe_interval", Some(config.probe_interval)),
            ("probe_timeout", Some(config.probe_timeout)),
        ] {
            if duration.is_some_and(|duration| duration.is_zero()) {
                return Err(Error::config(field, "0 leaves no time for an answer; give a duration such as `500ms`"));
            }
        }
        if config.max_lag.is_some_and(|limit| limit.is_zero()) || config.max_lag_bytes == Some(0) {
            let field = if config.max_lag_bytes == Some(0) { "max_lag_bytes" } else { "max_lag" };
            return Err(Error::config(
                field,
                "0 would keep every replica out that has something to do; leave it out for no limit",
            ));
        }
        if config.wait_for_replica >= config.read_selection_timeout {
            let problem = "it must be less than `read_selection_timeout`, or the primary would never be asked instead";
            return Err(Error::config("wait_for_replica", problem));
        }
        if config.consistency == Consistency::BoundedStaleness(Duration::ZERO) {
            return Err(Error::config("consistency", "a staleness of 0 is `strong`"));
        }
        if config.primary_read_connections == Some(0) {
            return Err(Error::config(
                "primary_read_connections",
                "0 leaves no connection for fallback reads; for no routed reads on the primary set `primary_read_share = 0`",
            ));
        }
        if config.zone.as_ref().is_some_and(|zone| zone.trim().is_empty()) {
            return Err(Error::config("zone", "it is blank; give the zone of this process, or leave the field out"));
        }
        share("primary_read_share", config.primary_read_share)?;
        share("primary_staleness_cap", config.primary_staleness_cap)?;
        share("hedge", config.hedge)?;
        if config.max_questions_per_second == 0 {
            let problem = "0 would let no read learn that a replica has what was written; give at least 1";
            return Err(Error::config("max_questions_per_second", problem));
        }
        let statement_timeout = config.primary.as_ref().and_then(NodeConfig::statement_limit);
        let acquire_timeout = config.primary.as_ref().and_then(NodeConfig::acquire_limit);
        Ok(Self(Config {
            primary: None,
            replicas: Vec::new(),
            unknown_outcome_hold: config.unknown_outcome_hold.or(statement_timeout),
            primary_connect_timeout: config.primary_connect_timeout.or(acquire_timeout),
            ..config.clone()
        }))
    }
}

/// A share of reads, or the error that names the field it came from.
pub(crate) fn share(field: &str, share: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(Error::config(field, format!("{share} is not between 0 and 1")))
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectOptions;

    use super::*;

    fn hold(primary: NodeConfig) -> Duration {
        Settings::try_from(&Config::new(primary)).expect("valid").unknown_outcome_hold()
    }

    #[test]
    fn a_write_of_unknown_outcome_is_held_for_the_statement_timeout_wherever_that_was_said() {
        let seconds = Duration::from_secs;
        let url = "postgres://shop@localhost/shop";
        let mut options = ConnectOptions::new(url);
        assert_eq!(hold(options.clone().into()), DEFAULT_UNKNOWN_OUTCOME_HOLD);
        options.statement_timeout(seconds(90));
        assert_eq!(hold(options.clone().into()), seconds(90));
        assert_eq!(hold(NodeConfig::from(options).statement_timeout(seconds(70))), seconds(70));
        assert_eq!(hold(NodeConfig::from(url).statement_timeout(seconds(80))), seconds(80));
    }
}
