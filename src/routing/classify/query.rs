//! The tokens of a query: most of them mean nothing, and cost accordingly.

use super::chunk;
use super::class::Class;
use super::dialect::Dialect;
use super::functions::{self, Case, Known};
use super::keyword::Keyword;
use super::lexer::long_word;
use super::phase::Phase;
use super::reason::Reason;
use super::scan::{Chain, Clause, Refused, Scan, Step};
use super::token::{Kind, Token};

impl Scan<'_, '_> {
    /// Follows a query up to the token that does not belong to it.
    ///
    /// The classes that queries are made of are decided here; all else goes the long way round.
    pub(super) fn query(&mut self) -> Result<Token, Refused> {
        let (text, classes) = (self.sql.as_bytes(), self.lexer.classes);
        let mut at = self.lexer.at;
        loop {
            let mut byte = byte_at(text, at);
            if byte == b' ' {
                at += 1;
                byte = byte_at(text, at);
            }
            match classes[usize::from(byte)] {
                Class::Quoted => {
                    if let Some(end) = self.quoted_names(text, at, b'"')? {
                        at = end;
                        continue;
                    }
                }
                Class::Backtick => {
                    if let Some(end) = self.quoted_names(text, at, b'`')? {
                        at = end;
                        continue;
                    }
                }
                Class::Letter => {
                    let chunk = chunk::load(text, at);
                    let length = chunk::word_bytes(chunk);
                    // One letter may be the prefix of a literal.
                    if length > 1 || !matches!(byte_at(text, at + 1), b'\'' | b'&') {
                        // Of eight bytes if the ninth is this one.
                        if byte_at(text, at + length) == b'(' && self.calls_short(chunk, at, length) {
                            at += length + 1;
                            continue;
                        }
                        let (keyword, end) = match length < 8 {
                            true => (Keyword::short(chunk, length), at + length),
                            false => long_word(text, at, chunk),
                        };
                        let word = Token::new(Kind::Word, keyword, at, end);
                        at = end;
                        match byte_at(text, at) {
                            b'(' if self.calls_harmless(word) => at += 1,
                            b'.' => {
                                self.name(word)?;
                                at = self.column_behind(text, at).unwrap_or(at);
                            }
                            _ => {
                                self.name(word)?;
                                at = self.comma_behind(text, at);
                            }
                        }
                        continue;
                    }
                }
                Class::Comma if self.clause.is_ordinary() => {
                    if self.clause == Clause::JoinCondition {
                        self.clause = Clause::Tables;
                    }
                    self.advance(Token::single(Kind::Comma, at));
                    at += 1;
                    continue;
                }
                Class::Dot if self.clause.is_ordinary() && !byte_at(text, at + 1).is_ascii_digit() => {
                    self.dot(Token::single(Kind::Dot, at))?;
                    at += 1;
                    continue;
                }
                Class::Open => {
                    self.open(Token::single(Kind::Open, at))?;
                    at += 1;
                    // What `open` does after another one among arguments.
                    while byte_at(text, at) == b'(' && self.clause == Clause::Arguments {
                        self.push(Clause::Arguments);
                        self.advance(Token::single(Kind::Open, at));
                        at += 1;
                    }
                    continue;
                }
                // There the last one ends the query.
                Class::Close if self.phase != Phase::CopyQuery => {
                    self.close(Token::single(Kind::Close, at))?;
                    at += 1;
                    while byte_at(text, at) == b')' {
                        self.close(Token::single(Kind::Close, at))?;
                        at += 1;
                    }
                    at = self.comma_behind(text, at);
                    continue;
                }
                Class::Operator if self.clause.is_ordinary() => {
                    self.advance(Token::single(Kind::Operator, at));
                    at += 1;
                    continue;
                }
                Class::Dollar if self.clause.is_ordinary() && byte_at(text, at + 1).is_ascii_digit() => {
                    let mut end = at + 2;
                    while byte_at(text, end).is_ascii_digit() {
                        end += 1;
                    }
                    at = self.operand(text, Token::new(Kind::Parameter, Keyword::None, at, end));
                    continue;
                }
                Class::Digit if self.clause.is_ordinary() => {
                    let mut end = at + 1;
                    while byte_at(text, end).is_ascii_digit() {
                        end += 1;
                    }
                    // What else goes on may be a fraction, an exponent, or a name that begins with digits.
                    if matches!(byte_at(text, end), b',' | b' ' | b')') {
                        at = self.operand(text, Token::new(Kind::Number, Keyword::None, at, end));
                        continue;
                    }
                }
                Class::Quote if self.clause.is_ordinary() && self.phase != Phase::ShowVariables => {
                    // Without a backslash and a doubled quote all readings end it at the same place.
                    if !(byte_at(text, at + 1) | 0x20 == b'p' && self.dialect == Dialect::Sqlite)
                        && let Some(end) = chunk::find_either(text, at + 1, b'\'', b'\\')
                        && byte_at(text, end) == b'\''
                        && byte_at(text, end + 1) != b'\''
                    {
                        at = self.operand(text, Token::new(Kind::Text, Keyword::None, at, end + 1));
                        continue;
                    }
                }
                Class::Space => {
                    at += 1;
                    continue;
                }
                Class::Bad if at == text.len() => return Ok(self.lexer.token(Kind::End, at, at)),
                _ => {}
            }
            if let Some(end) = self.next_in_query(at)? {
                return Ok(end);
            }
            at = self.lexer.at;
        }
    }

    /// A quoted name, or a list of them; gives its end, if it has one.
    #[inline(always)]
    fn quoted_names(&mut self, text: &[u8], start: usize, quote: u8) -> Result<Option<usize>, Refused> {
        if let Some(end) = self.columns(text, start, quote) {
            return Ok(Some(end));
        }
        let Some(end) = chunk::find_close(text, start + 1, quote) else {
            return Ok(None);
        };
        self.name(Token::new(Kind::Quoted, Keyword::None, start, end))?;
        Ok(Some(self.comma_behind(text, end)))
    }

    /// As many of `"a"."b" AS "c", "d"."e"` as there are, which is what the select lists of SeaORM are made of; gives
    /// their end, if there is one at all.
    ///
    /// Does what `name`, `dot` and `comma_behind` do one after the other; a name about which they have more to say is left
    /// to them.
    #[inline(always)]
    fn columns(&mut self, text: &[u8], start: usize, quote: u8) -> Option<usize> {
        const AS: u64 = chunk::of(b" AS ", 0);
        let quoted = |start, end| Token::new(Kind::Quoted, Keyword::None, start, end);
        let (mut at, mut previous) = (start, self.previous);
        if !self.clause.is_ordinary() || previous.is(Kind::Dot) || previous.is_dml() {
            return None;
        }
        let mut ended = None;
        while let Some(mut end) = chunk::find_close(text, at + 1, quote) {
            let mut name = quoted(at, end);
            if self.is_temporary_schema(name) || self.may_be_pragma(text, at) {
                break;
            }
            let mut before = previous;
            let mut chain = Chain { before, first: name, names: 1 };
            if byte_at(text, end) == b'.' && byte_at(text, end + 1) == quote {
                let Some(last) = chunk::find_close(text, end + 2, quote) else { break };
                let dot = Token::single(Kind::Dot, end);
                name = quoted(end + 1, last);
                if self.may_act(name) || self.may_be_pragma(text, end + 1) {
                    break;
                }
                (before, chain.names, end) = (dot, 2, last);
            }
            if chunk::first(chunk::load(text, end), 4) == AS
                && byte_at(text, end + 4) == quote
                && !self.may_be_pragma(text, end + 4)
                && let Some(last) = chunk::find_close(text, end + 5, quote)
            {
                before = Token::new(Kind::Word, Keyword::As, end + 1, end + 3);
                name = quoted(end + 4, last);
                chain = Chain { before, first: name, names: 1 };
                end = last;
            }
            self.chain = chain;
            self.before_previous = before;
            self.previous = name;
            let after = self.comma_behind(text, end);
            ended = Some(after);
            if after == end || byte_at(text, after) != b' ' || byte_at(text, after + 1) != quote {
                break;
            }
            (at, previous) = (after + 1, self.previous);
        }
        ended
    }

    /// The dot at this place and the word behind it, if that is no more than a column; gives the end.
    ///
    /// Does what `dot` and `name` do one after the other, without asking which keyword it would be elsewhere.
    #[inline(always)]
    fn column_behind(&mut self, text: &[u8], dot: usize) -> Option<usize> {
        let start = dot + 1;
        let chunk = chunk::load(text, start);
        let length = chunk::word_bytes(chunk);
        // One letter may be the prefix of a literal, and a digit that of a number.
        if !(2..8).contains(&length) || self.class_at(text, start) != Class::Letter || !self.clause.is_ordinary() {
            return None;
        }
        let end = start + length;
        let column = Token::new(Kind::Word, Keyword::None, start, end);
        let may_act = match self.dialect {
            Dialect::Postgres => functions::may_be_attribute_call(text[start], text[start + 1], length),
            Dialect::MySql => length == "nextval".len(),
            Dialect::Sqlite => text[start] | 0x20 == b'p',
        };
        if may_act || self.previous.is_keyword(Keyword::PgTemp) {
            return None;
        }
        self.chain.names += 1;
        self.before_previous = Token::single(Kind::Dot, dot);
        self.previous = column;
        Some(self.comma_behind(text, end))
    }

    #[inline(always)]
    fn class_at(&self, text: &[u8], at: usize) -> Class {
        self.lexer.classes[usize::from(byte_at(text, at))]
    }

    /// On SQLite a quoted name may be that of a pragma's table.
    #[inline(always)]
    fn may_be_pragma(&self, text: &[u8], quote: usize) -> bool {
        self.dialect == Dialect::Sqlite && byte_at(text, quote + 1) | 0x20 == b'p'
    }

    /// An operand that is no name, and the comma behind it; gives the end.
    #[inline(always)]
    fn operand(&mut self, text: &[u8], token: Token) -> usize {
        self.advance(token);
        self.comma_behind(text, token.end())
    }

    /// The comma at this place if it only goes on with a list; gives its end.
    #[inline(always)]
    fn comma_behind(&mut self, text: &[u8], at: usize) -> usize {
        if byte_at(text, at) != b',' || !self.clause.is_ordinary() || self.clause == Clause::JoinCondition {
            return at;
        }
        self.advance(Token::single(Kind::Comma, at));
        at + 1
    }

    /// `lower(`, in one step where nothing but a call can stand, and if the function is known as harmless.
    ///
    /// Does what `name` and `open` do one after the other; everything else is left to them. The word begins at `at`
    /// with `chunk`, and is of `length`, up to eight bytes.
    #[inline(always)]
    fn calls_short(&mut self, chunk: u64, at: usize, length: usize) -> bool {
        let is_harmless = self.may_call() && functions::is_short_and_harmless(chunk, length, self.dialect);
        if is_harmless {
            self.goes_into_call(Token::new(Kind::Word, Keyword::None, at, at + length));
        }
        is_harmless
    }

    /// As [`calls_short`](Self::calls_short), for a word of any length.
    #[inline(always)]
    fn calls_harmless(&mut self, word: Token) -> bool {
        let is_harmless = self.may_call() && word.is(Kind::Word) && self.built_in(word, Case::Word) == Known::Harmless;
        if is_harmless {
            self.goes_into_call(word);
        }
        is_harmless
    }

    /// Is the next word a call of a built-in, if a parenthesis follows and it is no keyword?
    #[inline(always)]
    fn may_call(&self) -> bool {
        let previous = self.previous;
        let is_named_before = previous.is(Kind::Dot) || previous.is(Kind::Cast) || previous.is_keyword(Keyword::As);
        if is_named_before || previous.is_dml() || self.redefined {
            return false;
        }
        matches!(self.clause, Clause::Arguments | Clause::Expressions | Clause::JoinCondition)
    }

    /// Goes on behind a word and its parenthesis.
    #[inline(always)]
    fn goes_into_call(&mut self, word: Token) {
        self.before_previous = word;
        self.previous = Token::single(Kind::Open, word.end());
        self.push(Clause::Arguments);
    }

    /// Takes any token at this place; gives it back if it does not belong to the query.
    #[inline(never)]
    fn next_in_query(&mut self, at: usize) -> Result<Option<Token>, Refused> {
        let name_end = match self.previous.is_name() {
            true => self.previous.end(),
            false => usize::MAX,
        };
        self.lexer.resume(at, name_end);
        let token = self.lexer.next();
        match token.kind() {
            Kind::End | Kind::Semicolon | Kind::Stop => return Ok(Some(token)),
            Kind::Word | Kind::Quoted | Kind::Escaped => self.name(token)?,
            Kind::Open => self.open(token)?,
            Kind::Close => self.close(token)?,
            _ => self.other(token)?,
        }
        match self.phase.is_query() {
            true => Ok(None),
            false => Ok(Some(self.lexer.next())),
        }
    }

    /// A token that is no name and no parenthesis.
    fn other(&mut self, mut token: Token) -> Step {
        match token.kind() {
            Kind::Dot if self.clause != Clause::QueryStart => return self.dot(token),
            Kind::Comma => match self.clause {
                Clause::JoinCondition => self.clause = Clause::Tables,
                Clause::WithNext => self.clause = Clause::WithName,
                Clause::WithName | Clause::WithBody => return self.incomplete(token),
                _ => {}
            },
            Kind::At | Kind::AtAt | Kind::Assign => self.variable(&mut token)?,
            Kind::Text if self.phase == Phase::ShowVariables => self.shown_variable(token)?,
            Kind::Text if self.dialect == Dialect::Sqlite && self.clause.is_ordinary() => self.pragma_text(token)?,
            _ if self.clause.is_with() && self.clause != Clause::WithSearch => {
                return self.incomplete(token);
            }
            _ => {}
        }
        if self.clause == Clause::QueryStart {
            return self.incomplete(token);
        }
        self.advance(token);
        Ok(())
    }

    #[inline]
    fn dot(&mut self, token: Token) -> Step {
        if !self.previous.is_name() {
            self.chain.names = 9;
        } else if self.is_temporary_schema(self.previous) {
            return self.temporary(self.previous);
        }
        self.advance(token);
        Ok(())
    }

    /// `pg_temp` or `"pg_temp"`: a schema that belongs to the session.
    #[inline(always)]
    fn is_temporary_schema(&self, name: Token) -> bool {
        const QUOTED: &[u8] = b"\"pg_temp\"";
        match name.is(Kind::Quoted) {
            true => name.len() == QUOTED.len() && self.text(name) == QUOTED && self.dialect == Dialect::Postgres,
            false => name.is_keyword(Keyword::PgTemp) && self.dialect == Dialect::Postgres,
        }
    }

    #[cold]
    fn temporary(&mut self, schema: Token) -> Step {
        self.refuse(Reason::SessionVariable { at: schema.start() })
    }

    /// A word or a quoted name. Where the grammar wants a name, its keyword is taken away.
    #[inline(always)]
    fn name(&mut self, mut token: Token) -> Step {
        let previous = self.previous;
        if previous.is(Kind::Dot) {
            if self.may_act(token) {
                self.field(token)?;
            }
            token.forget_keyword();
            self.chain.go_on(token);
        } else {
            self.chain.begin(previous, token);
            if previous.is_word(Keyword::As) && self.clause != Clause::WithBody {
                token.forget_keyword();
            }
        }
        if self.dialect == Dialect::Sqlite {
            self.pragma_table(token)?;
        }
        if !self.clause.is_ordinary() {
            self.first_name(token)?;
        } else if previous.is_dml() {
            self.after_verb(token)?;
        } else if token.has_rule() {
            self.keyword(token)?;
        }
        self.before_previous = previous;
        self.previous = token;
        Ok(())
    }

    /// A name where a query begins or in a `WITH` list.
    #[cold]
    fn first_name(&mut self, token: Token) -> Step {
        match self.clause {
            Clause::QueryStart => self.begin_query(token),
            _ => self.with_name(token),
        }
    }

    /// A name after `(INSERT`, which is a verb unless the name goes on with an expression.
    #[cold]
    fn after_verb(&mut self, token: Token) -> Step {
        if self.before_previous.is(Kind::Open) && !token.keyword().continues_expression() {
            return self.modifies(self.previous);
        }
        self.keyword(token)
    }

    /// Can a name after a dot be more than a column?
    #[inline(always)]
    fn may_act(&self, token: Token) -> bool {
        match self.dialect {
            Dialect::Postgres => {
                let quotes = usize::from(token.is(Kind::Quoted));
                let (text, start) = (self.sql.as_bytes(), token.start() + quotes);
                let length = token.len() - 2 * quotes;
                functions::may_be_attribute_call(byte_at(text, start), byte_at(text, start + 1), length)
                    || token.is(Kind::Escaped)
            }
            Dialect::MySql => token.is_keyword(Keyword::Nextval) || token.is_keyword(Keyword::Currval),
            Dialect::Sqlite => false,
        }
    }

    /// A name after a dot: a column, unless it is one of the names that act when they are written so.
    #[cold]
    fn field(&mut self, token: Token) -> Step {
        match (self.dialect, token.kind()) {
            // `s.nextval`
            (Dialect::MySql, _) => self.refuse(Reason::SequenceValue { at: token.start() }),
            (_, Kind::Escaped) => self.refuse(Reason::UnresolvedEscape { at: token.start() }),
            (_, Kind::Quoted) => self.attribute(token, Case::Exact),
            _ => self.attribute(token, Case::Word),
        }
    }

    /// `('s'::regclass).nextval` is a call: PostgreSQL takes `x.f` for `f(x)` if x has no column f.
    fn attribute(&mut self, token: Token, case: Case) -> Step {
        match functions::attribute_call(self.to_look_up(token, case)) {
            Some(effect) if !self.is_followed_by_parenthesis(token) => {
                let (at, len) = (token.start(), token.len());
                self.refuse(Reason::PrimaryFunction { effect, at, len })
            }
            _ => Ok(()),
        }
    }

    /// Looks past white space only: a comment in between changes the reason, not the intent.
    fn is_followed_by_parenthesis(&self, token: Token) -> bool {
        let rest = self.sql.as_bytes().get(token.end()..).unwrap_or_default();
        rest.iter().take(16).find(|byte| !byte.is_ascii_whitespace()) == Some(&b'(')
    }
}

/// The byte at a place; NUL, which begins no token, stands for the end.
#[inline]
fn byte_at(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}
