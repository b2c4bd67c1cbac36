//! The shape of a statement: its text without the values that change from one run to the next.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

use sea_orm::DbBackend;

use super::{
    dialect::{Dialect, LiteralRules},
    lexer::Lexer,
    token::{TOO_LONG, Token, TokenKind},
};

/// Statements of one shape differ in their literals, parameters, white space, comments and the case of
/// their words. A list of literals counts as one literal.
///
/// Sixty-four bits under a key of this process (SipHash 1-3, `std`'s own): two shapes that fall together
/// cost one of the statements a trip to the primary, or a refusal by its read-only session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape(u64);

/// How many statements a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statements {
    /// At most one, under all rules for literals.
    One,
    Several,
}

/// The shape of a text and the number of its statements; `None` where the lexer cannot follow the text.
pub(crate) fn shape_of(sql: &str, backend: DbBackend, keys: &RandomState) -> Option<(Shape, Statements)> {
    let dialect = Dialect::of(backend)?;
    if sql.len() >= TOO_LONG {
        return None;
    }
    let (usual, others) = dialect.literal_rules();
    let mut hasher = ShapeHasher::new(sql, dialect, usual, keys);
    // The text must make sense under the usual rules; under the others it may.
    if !hasher.run() {
        return None;
    }
    let mut most = hasher.statements;
    if hasher.lexer.ambiguous.is_some() {
        for rules in others {
            let mut other = ShapeHasher::new(sql, dialect, *rules, keys);
            other.run();
            most = most.max(other.statements);
        }
    }
    let statements = if most > 1 { Statements::Several } else { Statements::One };
    Some((Shape(hasher.hash.finish()), statements))
}

/// The length at which a shown text is cut, in bytes.
const SHOWN: usize = 1_000;
/// Longer tokens are no names: PostgreSQL cuts names at 63 bytes, MySQL at 64 characters.
const LONGEST_NAME: usize = 256;

/// The text of a statement with `?` for each value, as far as the lexer can follow the text.
pub(crate) fn text_of_shape(sql: &str, backend: DbBackend) -> String {
    let mut shown = String::new();
    let (Some(dialect), true) = (Dialect::of(backend), sql.len() < TOO_LONG) else { return shown };
    let mut lexer = Lexer::new(sql, dialect, dialect.literal_rules().0);
    let (mut end, mut last) = (0, TokenKind::Start);
    while shown.len() < SHOWN {
        let lexed = lexer.next();
        // Under other rules for literals this token may be inside of a literal, which must not be shown.
        if lexer.ambiguous.is_some() {
            break;
        }
        let Ok(token) = lexed else { return shown };
        let text = sql.get(token.start()..token.end()).unwrap_or_default();
        match token.kind {
            TokenKind::End => return shown,
            // `4111_1111`: the digits go on.
            TokenKind::Word if last == TokenKind::Number && token.start() == end => {
                end = token.end();
                continue;
            }
            _ if token.start() > end && end > 0 => shown.push(' '),
            _ => {}
        }
        match token.kind {
            TokenKind::Text | TokenKind::Number | TokenKind::Parameter => shown.push('?'),
            // SQLite takes this for a text when no column has that name.
            TokenKind::Quoted if dialect == Dialect::Sqlite && text.starts_with('"') => shown.push('?'),
            _ if text.len() > LONGEST_NAME => shown.push('…'),
            _ => shown.push_str(text),
        }
        (end, last) = (token.end(), token.kind);
    }
    shown.push('…');
    shown
}

/// Hashes the shape of a text as one set of rules for literals reads it.
struct ShapeHasher<'sql> {
    sql: &'sql [u8],
    /// Where the last token ended.
    end: usize,
    lexer: Lexer<'sql>,
    hash: DefaultHasher,
    last: LastToken,
    statements: usize,
}

/// The last token, as far as the hash of the next one depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastToken {
    /// No token of the present statement.
    Start,
    Literal,
    /// A comma after a literal: if another literal follows, neither is hashed.
    CommaAfterLiteral,
    Other,
}

impl<'sql> ShapeHasher<'sql> {
    fn new(sql: &'sql str, dialect: Dialect, rules: LiteralRules, keys: &RandomState) -> Self {
        Self {
            sql: sql.as_bytes(),
            end: 0,
            lexer: Lexer::new(sql, dialect, rules),
            hash: keys.build_hasher(),
            last: LastToken::Start,
            statements: 0,
        }
    }

    /// Reads to the end; `false` if the lexer cannot.
    fn run(&mut self) -> bool {
        loop {
            let Ok(token) = self.lexer.next() else { return false };
            match token.kind {
                TokenKind::End => return true,
                TokenKind::Semicolon => self.last = LastToken::Start,
                _ => self.token(token),
            }
        }
    }

    fn token(&mut self, token: Token) {
        let goes_on = self.last == LastToken::Literal && token.start() == self.end;
        self.end = token.end();
        if goes_on && token.kind == TokenKind::Word {
            return; // `4111_1111`: the digits go on.
        }
        if self.last == LastToken::Start {
            self.statements += 1;
            self.hash.write_u8(b';');
        }
        // In the rules of a configuration `?` stands for a value, also where the database takes it for an operator.
        let is_literal = matches!(token.kind, TokenKind::Text | TokenKind::Number | TokenKind::Parameter)
            || (token.is(TokenKind::Operator) && self.text(token) == b"?");
        self.last = match (self.last, is_literal) {
            (LastToken::CommaAfterLiteral, true) => LastToken::Literal,
            (_, true) => {
                self.hash.write_u8(b'?');
                LastToken::Literal
            }
            (LastToken::Literal, false) if token.is(TokenKind::Comma) => LastToken::CommaAfterLiteral,
            (last, false) => {
                if last == LastToken::CommaAfterLiteral {
                    self.hash.write_u8(b',');
                }
                self.word(token);
                LastToken::Other
            }
        };
    }

    fn text(&self, token: Token) -> &'sql [u8] {
        self.sql.get(token.start()..token.end()).unwrap_or_default()
    }

    fn word(&mut self, token: Token) {
        let text = self.text(token);
        if token.kind == TokenKind::Word {
            // In pieces: hashing byte by byte takes several times as long.
            let mut folded = [0; 64];
            for piece in text.chunks(folded.len()) {
                let folded = &mut folded[..piece.len()];
                folded.copy_from_slice(piece);
                folded.make_ascii_lowercase();
                self.hash.write(folded);
            }
        } else {
            self.hash.write(text);
        }
        // No token begins with a space: two tokens are not one.
        self.hash.write_u8(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(sql: &str, keys: &RandomState) -> Shape {
        shape_of(sql, DbBackend::Postgres, keys).expect("it can be followed").0
    }

    #[test]
    fn what_changes_from_run_to_run_is_no_part_of_a_shape() {
        let keys = RandomState::new();
        let one = shape("SELECT name FROM item WHERE id = 7 AND kind IN (1, 2, 3) AND note = 'x'", &keys);
        for same in [
            "select  Name\nFROM item where id=$1 and kind in ($2,$3) and note = $4;",
            "SELECT name FROM item WHERE id = 8 AND kind IN (1) AND note = E'\\'y' -- traceparent=00-1",
            "/* a */ SELECT name FROM item WHERE id = 1e3 AND kind IN (?) AND note = ? ; ;",
        ] {
            assert_eq!(shape(same, &keys), one, "{same}");
        }
        for other in [
            "SELECT name FROM item WHERE id = 7 AND kind IN (1, 2, 3)",
            "SELECT name FROM items WHERE id = 7 AND kind IN (1, 2, 3) AND note = 'x'",
            "SELECT \"Name\" FROM item WHERE id = 7 AND kind IN (1, 2, 3) AND note = 'x'",
            "SELECT na me FROM item WHERE id = 7 AND kind IN (1, 2, 3) AND note = 'x'",
            "SELECT name FROM item WHERE id = 7 AND kind IN (1, x, 3) AND note = 'x'",
            "SELECT name FROM item; WHERE id = 7 AND kind IN (1, 2, 3) AND note = 'x'",
        ] {
            assert_ne!(shape(other, &keys), one, "{other}");
        }
    }

    #[test]
    fn no_value_is_shown() {
        let sql = "SELECT  f('secret',7)\n FROM t -- secret\n WHERE a=$1 AND b IN ('x', E'y\\'z', $$w$$);";
        assert_eq!(text_of_shape(sql, DbBackend::Postgres), "SELECT f(?,?) FROM t WHERE a=? AND b IN (?, ?, ?);");
        let cards = "SELECT 4111_1111_1111_1111, 0x41 AS hex";
        assert_eq!(text_of_shape(cards, DbBackend::Postgres), "SELECT ?, ? AS hex");
        assert_eq!(text_of_shape(r#"SELECT "secret""#, DbBackend::Sqlite), "SELECT ?");
        assert_eq!(text_of_shape(r"SELECT 'a\', ' , secret , '", DbBackend::MySql), "SELECT…");
        assert!(!text_of_shape(&format!("SELECT \"{}\"", "x".repeat(5_000)), DbBackend::Postgres).contains("xx"));
        assert!(text_of_shape(&"a ".repeat(10_000), DbBackend::Postgres).len() < 2 * SHOWN);
    }

    #[test]
    fn several_statements_are_seen_in_every_reading() {
        let keys = RandomState::new();
        let count = |sql, backend| shape_of(sql, backend, &keys).map(|(_, statements)| statements);
        for one in ["SELECT 1", "SELECT 1;", ";;SELECT ';'; -- ;\n;", "", "/* ; */ SELECT 1"] {
            assert_eq!(count(one, DbBackend::Postgres), Some(Statements::One), "{one}");
        }
        for several in ["SELECT 1; SELECT 2", "SELECT 1;;SELECT 2;", r"SELECT 'a\'; SELECT 2 --'"] {
            assert_eq!(count(several, DbBackend::Postgres), Some(Statements::Several), "{several}");
        }
        assert_eq!(count(r#"SELECT "a; SELECT 1; ""#, DbBackend::MySql), Some(Statements::One));
        assert_eq!(count(r#"SELECT "a\"; SELECT 1; -- ""#, DbBackend::MySql), Some(Statements::Several));
        assert_eq!(count("SELECT 'a", DbBackend::Postgres), None);
        assert_eq!(count("SELECT /*! 1 */", DbBackend::MySql), None);
    }
}
