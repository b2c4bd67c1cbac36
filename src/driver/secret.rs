//! A database URL whose password is kept apart, so that no output can contain it.

use std::{borrow::Cow, fmt};

use percent_encoding::percent_decode_str;
use sea_orm::DbBackend;
use url::Url;

const ENCODE: &str = "characters such as `@`, `:`, `/`, `?` and `#` in a user, a password or a database's name must be percent-encoded (`@` as `%40`, `/` as `%2F`)";

/// Stands for the value of a parameter that the driver does not know.
const HIDDEN: &str = "hidden";

/// The parameters that sqlx knows, but for the password.
const OF_POSTGRES: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
const OF_MYSQL: &[&str] = &[
    "charset",
    "collation",
    "socket",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "sslca",
    "sslcert",
    "sslkey",
    "sslmode",
    "statement-cache-capacity",
    "time-zone",
    "timezone",
];
const OF_SQLITE: &[&str] = &["cache", "immutable", "mode", "vfs"];

fn is_known(key: &str, backend: DbBackend) -> bool {
    match backend {
        DbBackend::Postgres => OF_POSTGRES.contains(&key) || key.starts_with("options["),
        DbBackend::MySql => OF_MYSQL.contains(&key),
        _ => OF_SQLITE.contains(&key),
    }
}

/// The parameters whose values may hold an `@`.
const WITH_AT: &[&str] = &["application_name", "dbname", "options", "password", "user"];

/// Whether a part of the user's password ended up behind the host, because a character of the password ends the user or the
/// host: `@` in the path, in a fragment, or in a parameter that has none.
fn has_stray_password(url: &Url) -> bool {
    let is_stray = |(key, value): (Cow<'_, str>, Cow<'_, str>)| {
        key.contains('@') || value.contains('@') && !WITH_AT.contains(&&*key)
    };
    url.fragment().is_some() || url.path().contains('@') || url.query_pairs().any(is_stray)
}

/// A URL in two parts: the part that may be shown, and the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretUrl {
    /// The URL without any password in it. Shown, logged and handed to SeaORM.
    shown: String,
    password: Option<String>,
    pub(crate) backend: DbBackend,
    /// `host:port`, or the stem of a SQLite file.
    pub(crate) default_name: String,
    /// A SQLite database that lives in one connection's memory.
    pub(crate) in_memory: bool,
}

impl SecretUrl {
    /// Takes a URL apart. The error names the mistake without repeating the URL, which may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| format!("the URL cannot be parsed ({error}); {ENCODE}"))?;
        let backend = match url.scheme() {
            "postgres" | "postgresql" => DbBackend::Postgres,
            "mysql" | "mariadb" => DbBackend::MySql,
            "sqlite" => DbBackend::Sqlite,
            // Without `//` the scheme may be a user, or a password.
            other if url.has_authority() => {
                return Err(format!("`{other}` is not a scheme the resolver knows; use postgres, mysql or sqlite"));
            }
            _ => return Err("it does not begin with `postgres://`, `mysql://` or `sqlite:`".to_owned()),
        };
        if backend == DbBackend::Sqlite {
            return Ok(Self::sqlite(text));
        }
        if !url.has_authority() {
            // The rest would be a path that contains the password.
            return Err("`//` is missing after the scheme".to_owned());
        }
        if has_stray_password(&url) {
            return Err(format!("the host cannot be told from the password: {ENCODE}"));
        }
        let mut password = url.password().map(|encoded| percent_decode_str(encoded).decode_utf8_lossy().into_owned());
        // Cannot fail: both schemes have an authority.
        let _ = url.set_password(None);
        if url.query().is_some() {
            let mut kept = Vec::new();
            for (key, value) in url.query_pairs() {
                match &*key {
                    "password" => password = Some(value.into_owned()),
                    key if is_known(key, backend) => kept.push((key.to_owned(), value.into_owned())),
                    // sqlx ignores the parameter, and logs its value.
                    key => kept.push((key.to_owned(), HIDDEN.to_owned())),
                }
            }
            if kept.is_empty() {
                url.set_query(None);
            } else {
                url.query_pairs_mut().clear().extend_pairs(kept);
            }
        }
        if url.scheme() == "mariadb" {
            // SeaORM knows the protocol by its older name.
            let renamed = format!("mysql{}", &url.as_str()["mariadb".len()..]);
            url = Url::parse(&renamed).map_err(|error| format!("the URL cannot be parsed ({error})"))?;
        }
        let port = url.port().unwrap_or(if backend == DbBackend::Postgres { 5432 } else { 3306 });
        let host = url.host_str().filter(|host| !host.is_empty()).unwrap_or("localhost");
        Ok(Self { default_name: format!("{host}:{port}"), shown: url.into(), password, backend, in_memory: false })
    }

    fn sqlite(text: &str) -> Self {
        let path = text.trim_start_matches("sqlite:").trim_start_matches("//");
        let (file, query) = path.split_once('?').unwrap_or((path, ""));
        let in_memory = file == ":memory:" || file.is_empty() || query.split('&').any(|pair| pair == "mode=memory");
        let stem =
            std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str()).filter(|stem| !stem.is_empty());
        let default_name = if in_memory { "memory" } else { stem.unwrap_or("sqlite") };
        Self {
            default_name: default_name.to_owned(),
            shown: without_unknown(text),
            password: None,
            backend: DbBackend::Sqlite,
            in_memory,
        }
    }

    /// The URL, which SeaORM is given and which may be shown.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

/// A URL of a SQLite file without the values of parameters that sqlx does not know: sqlx refuses them by their names.
fn without_unknown(text: &str) -> String {
    let Some((file, query)) = text.split_once('?') else { return text.to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if !is_known(key, DbBackend::Sqlite) => format!("{key}={HIDDEN}"),
        _ => pair.to_owned(),
    });
    format!("{file}?{}", pairs.collect::<Vec<_>>().join("&"))
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_decoded_and_leaves_the_url() {
        for text in [
            "postgres://shop:p%40ss%2Fword@db.example:5433/shop?sslmode=require",
            "postgres://shop@db.example:5433/shop?password=p%40ss%2Fword&sslmode=require",
        ] {
            let url = SecretUrl::parse(text).expect("valid");
            assert_eq!(url.password(), Some("p@ss/word"));
            assert_eq!(url.shown(), "postgres://shop@db.example:5433/shop?sslmode=require");
            assert_eq!(url.default_name, "db.example:5433");
            assert!(!format!("{url:?}").contains("word"));
        }
    }

    #[test]
    fn default_names_are_host_and_port_or_the_stem_of_a_file() {
        for (text, name) in [
            ("postgres://localhost/shop", "localhost:5432"),
            ("mysql://u:p@10.0.0.7/shop", "10.0.0.7:3306"),
            ("mariadb://u:p@10.0.0.7:3307/shop", "10.0.0.7:3307"),
            ("sqlite:///var/lib/shop.db?mode=rwc", "shop"),
            ("sqlite://orders.sqlite", "orders"),
            ("sqlite::memory:", "memory"),
        ] {
            assert_eq!(SecretUrl::parse(text).expect("valid").default_name, name, "{text}");
        }
    }

    #[test]
    fn an_in_memory_database_is_recognised_in_all_its_forms() {
        for text in ["sqlite::memory:", "sqlite://file?mode=memory", "sqlite:"] {
            assert!(SecretUrl::parse(text).expect("valid").in_memory, "{text}");
        }
        assert!(!SecretUrl::parse("sqlite://memory.db").expect("valid").in_memory);
    }

    #[test]
    fn an_at_sign_is_found_where_it_belongs() {
        for (text, name, password) in [
            ("postgres://shop:p@ss@db-1/shop", "db-1:5432", "p@ss"),
            ("postgres://shop:p:w%2F@db-1/shop", "db-1:5432", "p:w/"),
            ("postgres://db-1/shop?user=shop@corp&password=hun@ter2", "db-1:5432", "hun@ter2"),
            ("postgres://shop%40corp:x@db-1/sh%40op?application_name=a@b", "db-1:5432", "x"),
        ] {
            let url = SecretUrl::parse(text).expect("valid");
            assert_eq!((&*url.default_name, url.password()), (name, Some(password)), "{text}");
            assert!(!url.shown().contains(password) || password == "x", "{}", url.shown());
        }
    }

    #[test]
    fn the_value_of_a_parameter_that_no_driver_knows_is_hidden() {
        for text in [
            "postgres://h/db?Password=hunter2&sslmode=require",
            "postgres://h/db?sslpassword=hunter2&sslmode=require",
            "mysql://h/db?pwd=hunter2&ssl-mode=required",
            "sqlite://shop.db?mode=rwc&key=hunter2",
        ] {
            let url = SecretUrl::parse(text).expect("valid");
            assert!(!url.shown().contains("hunter2") && url.shown().contains("mode="), "{}", url.shown());
        }
    }

    #[test]
    fn a_password_that_is_not_encoded_is_an_error_and_no_host() {
        for text in [
            "postgres://u:p@ss/w:rd@db.example/shop",
            "mysql://u:hunter2/x@db.example:3306/shop",
            "postgres://u:p@ss#w:rd@db.example/shop",
        ] {
            let error = SecretUrl::parse(text).expect_err("a part of the password would be the host");
            assert!(!error.contains("hunter2") && !error.contains("w:rd"), "{error}");
        }
        let encoded = SecretUrl::parse("postgres://u:p%40ss%2Fw%3Ard@db.example/sh%40p").expect("valid");
        assert_eq!((encoded.password(), &*encoded.default_name), (Some("p@ss/w:rd"), "db.example:5432"));
    }

    #[test]
    fn a_bad_url_is_not_repeated_in_the_error() {
        for text in [
            "postgres://u:hunter2@:bad:port/x",
            "hunter2",
            "redis://u:hunter2@h/0",
            "postgres:u:hunter2@h/x",
            "mysql:/u:hunter2@h/x",
            "postgres://u:hun/ter2@h:99999999/x",
            "hunter2:x@h/db",
            "u:hunter2@h/db",
            "postgres://shop:p@ss/hunter2@db-1/shop",
            "postgres://shop:p@ss/w:hunter2@db-1:5432/shop?sslmode=require",
            "mysql://shop:12/hunter2@db-1/shop",
            "mysql://shop:12#hunter2@db-1/shop",
            "postgres://shop:12?hunter2@db-1/shop",
            "postgres://shop:12?a=hunter2@db-1/shop",
            "postgres://shop:p@ss?hunter2@db-1/shop",
            "postgres://shop:p@ss#hunter2",
            "postgres://shop:hunter2/ter2@db-1/shop",
        ] {
            let error = SecretUrl::parse(text).expect_err("invalid");
            assert!(!error.contains("hunter2") && !error.contains("ter2"), "{error}");
        }
    }
}
