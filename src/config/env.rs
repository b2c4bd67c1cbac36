//! A configuration from environment variables.

use std::{env, str::FromStr};

use super::{Config, NodeConfig, duration};
use crate::Error;

/// Reads one variable; a test hands in a table instead of the process's environment.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads the configuration from the environment.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `DATABASE_URL` | the primary | required |
    /// | `DATABASE_REPLICA_URLS` | replicas, separated by commas (a comma in a URL is written `%2C`) | none |
    /// | `DATABASE_PRIMARY_READ_SHARE` | share of the reads on the primary, 0 to 1 | 0.10 |
    /// | `DATABASE_PASSWORD_FILE` | a file with the password of every node, followed while it changes | that of the URL |
    /// | `DATABASE_USER_FILE` | a file with the user of every node | that of the URL |
    /// | `DATABASE_MAX_CONNECTIONS` | of each node's pool | 10 |
    /// | `DATABASE_MIN_CONNECTIONS` | kept open though idle | 0 |
    /// | `DATABASE_PRIMARY_READ_CONNECTIONS` | of the primary, for reads | half of the above, at least 2 |
    /// | `DATABASE_POLICY` | `least_in_flight`, `least_latency`, `round_robin`, `weighted_random` | `least_in_flight` |
    /// | `DATABASE_ZONE` | the zone of this process, whose replicas reads prefer | none |
    /// | `DATABASE_CONSISTENCY` | `session`, `eventual`, `process`, `bounded_staleness(1s)`, `strong` | `session` |
    /// | `DATABASE_MAX_LAG` | how far a replica may be behind, such as `10s`; `off` for no limit | 10 s |
    /// | `DATABASE_WAIT_FOR_REPLICA` | how long a read waits for a fresh one, such as `20ms` | not at all |
    /// | `DATABASE_STICK_AFTER_WRITE` | such as `500ms` | 1 s |
    /// | `DATABASE_MAX_QUESTIONS_PER_SECOND` | to all servers together, about positions | 500 |
    /// | `DATABASE_CONNECT_TIMEOUT` | such as `2s` | 2 s |
    /// | `DATABASE_SLOW_START` | how long the share of a node grows that came back, such as `30s`; `0s` for not at all | 10 s |
    /// | `DATABASE_PRIMARY_CONNECT_TIMEOUT` | how long `connect` waits for the primary, such as `1m` | 30 s |
    /// | `DATABASE_HEDGE` | the share of the reads that may be started a second time, such as `0.02` | 0 |
    /// | `DATABASE_STATEMENT_TIMEOUT` | of every node, such as `30s` | the server's own |
    ///
    /// # Errors
    /// A configuration error that names the variable: one that is missing, blank, or not of its
    /// type. A blank item in the list of replicas is an error too, not a missing replica. A variable that is set and that is
    /// none of these, but one or two letters from one of them (`DATABASE_REPLICA_URL`), is an error that names the right
    /// one; so are `DATABASE_REPLICAS` and its like. Other variables that begin with `DATABASE_` belong to other tools.
    pub fn from_env() -> Result<Self, Error> {
        let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        check_spelling(names)?;
        from_lookup(&|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }
}

/// The variables that are read, without their common beginning.
const VARIABLES: &[&str] = &[
    "URL",
    "REPLICA_URLS",
    "PASSWORD_FILE",
    "USER_FILE",
    "PRIMARY_READ_SHARE",
    "MAX_CONNECTIONS",
    "MIN_CONNECTIONS",
    "PRIMARY_READ_CONNECTIONS",
    "POLICY",
    "CONSISTENCY",
    "MAX_LAG",
    "WAIT_FOR_REPLICA",
    "STICK_AFTER_WRITE",
    "MAX_QUESTIONS_PER_SECOND",
    "CONNECT_TIMEOUT",
    "SLOW_START",
    "PRIMARY_CONNECT_TIMEOUT",
    "HEDGE",
    "STATEMENT_TIMEOUT",
    "ZONE",
];

/// Other names that people give to a variable.
const MISNAMED: &[(&str, &str)] = &[
    ("REPLICA", "REPLICA_URLS"),
    ("REPLICAS", "REPLICA_URLS"),
    ("READ_REPLICA_URL", "REPLICA_URLS"),
    ("READ_REPLICA_URLS", "REPLICA_URLS"),
    ("READ_REPLICAS", "REPLICA_URLS"),
];

/// Shorter names are near to names of other tools (`DATABASE_URI`).
const SHORTEST_COMPARED: usize = 6;
const NEAR: usize = 2;

/// Refuses a variable that is probably one of ours with a mistake in its name: such a variable has no effect, and a
/// service without its replicas works.
fn check_spelling(names: impl Iterator<Item = String>) -> Result<(), Error> {
    for name in names {
        let Some(rest) = name.strip_prefix("DATABASE_") else { continue };
        if VARIABLES.contains(&rest) {
            continue;
        }
        let misnamed = MISNAMED.iter().find(|(wrong, _)| *wrong == rest).map(|(_, right)| *right);
        let is_near = |known: &&&str| known.len() >= SHORTEST_COMPARED && distance(known, rest) <= NEAR;
        if let Some(right) = misnamed.or_else(|| VARIABLES.iter().find(is_near).copied()) {
            return Err(Error::config(
                &name,
                format!("no such variable is read; `DATABASE_{right}` is meant, or unset it"),
            ));
        }
    }
    Ok(())
}

/// How many characters must be added, removed or replaced to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for place in 1..row.len() {
            let replaced = diagonal + usize::from(letter != other[place - 1]);
            diagonal = row[place];
            row[place] = replaced.min(row[place] + 1).min(row[place - 1] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

fn from_lookup(lookup: Lookup<'_>) -> Result<Config, Error> {
    let max_connections = parsed::<u32>(lookup, "DATABASE_MAX_CONNECTIONS")?;
    let min_connections = parsed::<u32>(lookup, "DATABASE_MIN_CONNECTIONS")?;
    let statement_timeout = duration_of(lookup, "DATABASE_STATEMENT_TIMEOUT")?;
    let [user_file, password_file] = [text(lookup, "DATABASE_USER_FILE")?, text(lookup, "DATABASE_PASSWORD_FILE")?];
    let node = |url: &str| {
        let mut node = NodeConfig::from(url);
        node.settings.max_connections = max_connections;
        node.settings.min_connections = min_connections;
        node.settings.statement_timeout = statement_timeout;
        node.settings.user_file = user_file.as_ref().map(Into::into);
        node.settings.password_file = password_file.as_ref().map(Into::into);
        node
    };

    let primary = text(lookup, "DATABASE_URL")?
        .ok_or_else(|| Error::config("DATABASE_URL", "it is not set; give the URL of the primary"))?;
    let mut config = Config::new(node(&primary));
    if let Some(list) = text(lookup, "DATABASE_REPLICA_URLS")? {
        for (index, url) in list.split(',').map(str::trim).enumerate() {
            if url.is_empty() {
                return Err(Error::config(
                    "DATABASE_REPLICA_URLS",
                    format!("item {} of the list is blank; remove the extra comma", index + 1),
                ));
            }
            config.replicas.push(node(url));
        }
    }
    if let Some(share) = parsed(lookup, "DATABASE_PRIMARY_READ_SHARE")? {
        config.primary_read_share = share;
    }
    config.primary_read_connections = parsed(lookup, "DATABASE_PRIMARY_READ_CONNECTIONS")?;
    if let Some(policy) = parsed(lookup, "DATABASE_POLICY")? {
        config.policy = policy;
    }
    config.zone = text(lookup, "DATABASE_ZONE")?;
    if let Some(consistency) = parsed(lookup, "DATABASE_CONSISTENCY")? {
        config.consistency = consistency;
    }
    if let Some(stick) = duration_of(lookup, "DATABASE_STICK_AFTER_WRITE")? {
        config.stick_after_write = stick;
    }
    config.max_lag = match text(lookup, "DATABASE_MAX_LAG")? {
        Some(off) if off == "off" => None,
        Some(_) => duration_of(lookup, "DATABASE_MAX_LAG")?,
        None => config.max_lag,
    };
    if let Some(longest) = duration_of(lookup, "DATABASE_WAIT_FOR_REPLICA")? {
        config.wait_for_replica = longest;
    }
    if let Some(most) = parsed(lookup, "DATABASE_MAX_QUESTIONS_PER_SECOND")? {
        config.max_questions_per_second = most;
    }
    if let Some(timeout) = duration_of(lookup, "DATABASE_CONNECT_TIMEOUT")? {
        config.connect_timeout = timeout;
    }
    if let Some(slow_start) = duration_of(lookup, "DATABASE_SLOW_START")? {
        config.slow_start = slow_start;
    }
    if let Some(timeout) = duration_of(lookup, "DATABASE_PRIMARY_CONNECT_TIMEOUT")? {
        config.primary_connect_timeout = Some(timeout);
    }
    if let Some(hedge) = parsed(lookup, "DATABASE_HEDGE")? {
        config.hedge = super::settings::share("DATABASE_HEDGE", hedge)?;
    }
    Ok(config)
}

/// The text of a variable; a variable that is set must not be blank.
fn text(lookup: Lookup<'_>, name: &str) -> Result<Option<String>, Error> {
    match lookup(name) {
        None => Ok(None),
        Some(value) if value.trim().is_empty() => {
            Err(Error::config(name, "it is set but blank; unset it or give a value"))
        }
        Some(value) => Ok(Some(value.trim().to_owned())),
    }
}

fn parsed<T: FromStr>(lookup: Lookup<'_>, name: &str) -> Result<Option<T>, Error>
where
    T::Err: std::fmt::Display,
{
    text(lookup, name)?
        // The value is not repeated: it may be a URL in the wrong variable.
        .map(|value| value.parse().map_err(|error| Error::config(name, format!("the value cannot be read: {error}"))))
        .transpose()
}

fn duration_of(lookup: Lookup<'_>, name: &str) -> Result<Option<std::time::Duration>, Error> {
    text(lookup, name)?.map(|value| duration::parse(&value).map_err(|error| Error::config(name, error))).transpose()
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet, time::Duration};

    use super::*;
    use crate::{Consistency, PolicyKind};

    fn read(variables: &[(&str, &str)]) -> Result<Config, Error> {
        from_lookup(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_variable_arrives_where_it_belongs() {
        let config = read(&[
            ("DATABASE_URL", "postgres://u:p@one/db"),
            ("DATABASE_REPLICA_URLS", "postgres://u:p@two/db, postgres://u:p@three/db"),
            ("DATABASE_PASSWORD_FILE", "/run/secrets/password"),
            ("DATABASE_USER_FILE", "/run/secrets/user"),
            ("DATABASE_PRIMARY_READ_SHARE", "0.25"),
            ("DATABASE_MAX_CONNECTIONS", "20"),
            ("DATABASE_MIN_CONNECTIONS", "2"),
            ("DATABASE_PRIMARY_READ_CONNECTIONS", "7"),
            ("DATABASE_POLICY", "least_latency"),
            ("DATABASE_ZONE", "a"),
            ("DATABASE_CONSISTENCY", "process"),
            ("DATABASE_MAX_LAG", "3s"),
            ("DATABASE_WAIT_FOR_REPLICA", "20ms"),
            ("DATABASE_STICK_AFTER_WRITE", "250ms"),
            ("DATABASE_MAX_QUESTIONS_PER_SECOND", "50"),
            ("DATABASE_CONNECT_TIMEOUT", "4s"),
            ("DATABASE_SLOW_START", "0s"),
            ("DATABASE_PRIMARY_CONNECT_TIMEOUT", "1m"),
            ("DATABASE_HEDGE", "0.03"),
            ("DATABASE_STATEMENT_TIMEOUT", "30s"),
        ])
        .expect("valid");
        assert_eq!(config.replicas.len(), 2);
        for (node, host) in config.primary.iter().chain(&config.replicas).zip(["one", "two", "three"]) {
            assert!(format!("{node:?}").contains(&format!("@{host}/db")), "{node:?}");
            assert_eq!(node.settings.password_file, Some("/run/secrets/password".into()));
            assert_eq!(node.settings.user_file, Some("/run/secrets/user".into()));
            assert_eq!(node.settings.max_connections, Some(20));
            assert_eq!(node.settings.min_connections, Some(2));
            assert_eq!(node.settings.statement_timeout, Some(Duration::from_secs(30)));
        }
        assert!((config.primary_read_share - 0.25).abs() < f64::EPSILON);
        assert_eq!(config.primary_read_connections, Some(7));
        assert_eq!(config.policy, PolicyKind::LeastLatency);
        assert_eq!(config.zone.as_deref(), Some("a"));
        assert_eq!(config.consistency, Consistency::Process);
        assert_eq!(config.max_lag, Some(Duration::from_secs(3)));
        assert_eq!(config.wait_for_replica, Duration::from_millis(20));
        assert_eq!(config.stick_after_write, Duration::from_millis(250));
        assert_eq!(config.max_questions_per_second, 50);
        assert_eq!(config.connect_timeout, Duration::from_secs(4));
        assert_eq!(config.slow_start, Duration::ZERO);
        assert_eq!(config.primary_connect_timeout, Some(Duration::from_secs(60)));
        assert!((config.hedge - 0.03).abs() < f64::EPSILON);
    }

    #[test]
    fn a_lag_limit_that_is_off_is_none_and_one_that_is_not_set_is_the_default() {
        let url = ("DATABASE_URL", "sqlite://a.db");
        assert_eq!(read(&[url, ("DATABASE_MAX_LAG", "off")]).expect("valid").max_lag, None);
        assert_eq!(read(&[url]).expect("valid").max_lag, Some(Duration::from_secs(10)));
    }

    #[test]
    fn the_variables_that_are_read_are_those_of_the_documentation() {
        let asked = RefCell::new(BTreeSet::new());
        from_lookup(&|name| {
            asked.borrow_mut().insert(name.to_owned());
            (name == "DATABASE_URL").then(|| "sqlite://a.db".to_owned())
        })
        .expect("valid");
        let documented: BTreeSet<_> = include_str!("env.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// | `")?.split_once('`'))
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(asked.into_inner(), documented);
        assert_eq!(documented, VARIABLES.iter().map(|name| format!("DATABASE_{name}")).collect());
    }

    #[test]
    fn a_misspelt_variable_is_an_error_that_names_the_right_one() {
        for (wrong, right) in [
            ("DATABASE_REPLICA_URL", "DATABASE_REPLICA_URLS"),
            ("DATABASE_REPLICAS", "DATABASE_REPLICA_URLS"),
            ("DATABASE_REPLICAS_URLS", "DATABASE_REPLICA_URLS"),
            ("DATABASE_MAX_CONNECTION", "DATABASE_MAX_CONNECTIONS"),
            ("DATABASE_CONSISTANCY", "DATABASE_CONSISTENCY"),
            ("DATABASE_POLICIY", "DATABASE_POLICY"),
        ] {
            let error = check_spelling([wrong.to_owned()].into_iter()).expect_err(wrong);
            assert_eq!(error.field(), Some(wrong));
            assert!(error.to_string().contains(right), "{error}");
        }
    }

    #[test]
    fn variables_of_other_tools_are_left_alone() {
        for name in [
            "DATABASE_URI",
            "DATABASE_URLS",
            "DATABASE_USER",
            "DATABASE_HOST",
            "DATABASE_NAME",
            "DATABASE_PORT",
            "DATABASE_PASSWORD",
            "DATABASE_POOL_SIZE",
            "DATABASE_POOL",
            "DATABASE_TIMEOUT",
            "DATABASE_SCHEMA",
            "DATABASE_SSL_MODE",
            "DATABASE_URL_TEST",
            "DATABASE_AUTO_MIGRATE",
            "DATABASE_MAX_IDLE",
            "DATABASE_",
            "DB_URL",
        ] {
            assert!(check_spelling([name.to_owned()].into_iter()).is_ok(), "{name}");
        }
    }

    #[test]
    fn blank_and_wrong_values_are_errors_that_name_the_variable() {
        let url = ("DATABASE_URL", "sqlite://a.db");
        for (variables, name) in [
            (vec![], "DATABASE_URL"),
            (vec![("DATABASE_URL", " ")], "DATABASE_URL"),
            (vec![url, ("DATABASE_REPLICA_URLS", "")], "DATABASE_REPLICA_URLS"),
            (vec![url, ("DATABASE_REPLICA_URLS", "sqlite://b.db,,sqlite://c.db")], "DATABASE_REPLICA_URLS"),
            (vec![url, ("DATABASE_REPLICA_URLS", "sqlite://b.db,")], "DATABASE_REPLICA_URLS"),
            (vec![url, ("DATABASE_PRIMARY_READ_SHARE", "a tenth")], "DATABASE_PRIMARY_READ_SHARE"),
            (vec![url, ("DATABASE_POLICY", "fastest")], "DATABASE_POLICY"),
            (vec![url, ("DATABASE_ZONE", " ")], "DATABASE_ZONE"),
            (vec![url, ("DATABASE_CONSISTENCY", "perfect")], "DATABASE_CONSISTENCY"),
            (vec![url, ("DATABASE_STICK_AFTER_WRITE", "1")], "DATABASE_STICK_AFTER_WRITE"),
            (vec![url, ("DATABASE_MAX_CONNECTIONS", "-1")], "DATABASE_MAX_CONNECTIONS"),
        ] {
            let error = read(&variables).expect_err(name);
            assert!(error.is_config());
            assert_eq!(error.field(), Some(name), "{variables:?}");
        }
    }
}
