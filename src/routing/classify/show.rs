//! `SHOW` and the system variables of MySQL.

use super::keyword::Keyword;
use super::phase::Phase;
use super::reason::Reason;
use super::scan::{RuleResult, Scan};
use super::token::{Token, TokenKind};

/// The objects that `SHOW` may show on MySQL: data, definitions and settings, none of one node or one session.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "authors", "character", "charset", "collation", "columns", "contributors", "create", "databases", "engines",
    "events", "fields", "grants", "index", "indexes", "keys", "plugins", "privileges", "schemas", "storage",
    "tables", "triggers",
];

/// System variables with the same value in every session of a pool.
#[rustfmt::skip]
const SETTINGS: &[&str] = &[
    "auto_increment_increment", "auto_increment_offset", "autocommit", "basedir", "character_set_client",
    "character_set_connection", "character_set_database", "character_set_results", "character_set_server",
    "collation_connection", "collation_database", "collation_server", "datadir", "default_storage_engine",
    "event_scheduler", "explicit_defaults_for_timestamp", "group_concat_max_len", "hostname", "init_connect",
    "innodb_file_per_table", "innodb_page_size", "innodb_version", "interactive_timeout", "license",
    "lower_case_file_system", "lower_case_table_names", "max_allowed_packet", "max_connections",
    "max_execution_time", "net_buffer_length", "net_read_timeout", "net_write_timeout", "performance_schema",
    "port", "protocol_version", "sql_mode", "system_time_zone", "time_zone", "transaction_isolation",
    "tx_isolation", "version", "version_comment", "version_compile_machine", "version_compile_os",
    "version_ssl_library", "wait_timeout",
];

impl Scan<'_, '_> {
    pub(super) fn shown(&mut self, token: Token) -> RuleResult {
        let is_global = self.text(self.previous).eq_ignore_ascii_case(b"global");
        if self.is_one_of(token, &["variables"]) {
            self.phase = Phase::ShowVariables;
        } else if is_global {
            return self.other_form(token);
        } else if self.is_one_of(token, SHOWN) {
            self.phase = Phase::ShowRest;
        } else if self.is_one_of(token, &["table", "function", "procedure", "package"]) {
            self.phase = Phase::ShowStatus;
        } else if !self.is_one_of(token, &["full", "extended", "global"]) {
            return self.other_form(token);
        }
        Ok(())
    }

    pub(super) fn shown_status(&mut self, token: Token) -> RuleResult {
        if self.is_one_of(token, &["status"]) {
            self.phase = Phase::ShowRest;
        } else if !self.is_one_of(token, &["body"]) {
            return self.other_form(token);
        }
        Ok(())
    }

    /// `SHOW VARIABLES LIKE 'last_insert_id'` is about one session.
    pub(super) fn shown_variable(&mut self, token: Token) -> RuleResult {
        let pattern = self.text(token).get(1..).unwrap_or_default();
        let of_session = [&b"last"[..], b"insert", b"ident", b"warning", b"error", b"rand_seed", b"pseudo", b"in_tr"];
        let is = |start: &&[u8]| pattern.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start));
        if of_session.iter().any(is) { Err(Reason::SessionVariable { at: token.start() }) } else { Ok(()) }
    }

    /// `@x`, `@@x` or `:=` in a query; `token` becomes the last token of the variable.
    pub(super) fn variable(&mut self, token: &mut Token) -> RuleResult {
        let at = token.start();
        match token.kind {
            // SHOW GRANTS FOR 'u'@'host'
            TokenKind::At
                if self.phase.is_show() && self.previous.ends_operand() && self.previous.end() == token.start() =>
            {
                Ok(())
            }
            TokenKind::AtAt => {
                let name = self.lexer.next().ok();
                let is_setting = |name: &Token| self.is_one_of(*name, &["global"]) || self.is_one_of(*name, SETTINGS);
                let Some(mut name) = name.filter(|name| name.is(TokenKind::Word)).filter(is_setting) else {
                    return Err(Reason::SessionVariable { at });
                };
                name.keyword = Keyword::None;
                *token = name;
                self.chain.names = 9;
                Ok(())
            }
            _ => Err(Reason::SessionVariable { at }),
        }
    }
}
