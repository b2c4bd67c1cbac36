//! The name of a called function, for callers of the classifier that know user functions.

/// A called function that is no built-in, as written in the statement: nothing is copied.
///
/// On PostgreSQL a name without qualifier is looked up along `search_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionName<'sql> {
    qualifier: Option<&'sql str>,
    name: &'sql str,
    case_matters: bool,
}

impl<'sql> FunctionName<'sql> {
    pub(super) fn new(qualifier: Option<&'sql str>, name: &'sql str, case_matters: bool) -> Self {
        Self { qualifier, name, case_matters }
    }

    /// The part before the last dot, as written: `public`, `"My Schema"`, `db.schema`.
    #[must_use]
    pub fn qualifier(&self) -> Option<&'sql str> {
        self.qualifier
    }

    /// The last part, as written: with its quotes, in its case.
    #[must_use]
    pub fn name(&self) -> &'sql str {
        self.name
    }

    /// Whether this is a call of `name`, or of `schema.name`, given in lower case as the catalogue stores it.
    ///
    /// A `declared` name without a dot matches an unqualified call only. A quoted name matches in
    /// its exact case on PostgreSQL. Names that hold a dot or a quote never match.
    #[must_use]
    pub fn is(&self, declared: &str) -> bool {
        let (qualifier, name) = match declared.split_once('.') {
            Some((qualifier, name)) => (Some(qualifier), name),
            None => (None, declared),
        };
        let same_qualifier = match (self.qualifier, qualifier) {
            (None, None) => true,
            (Some(written), Some(declared)) => self.part_is(written, declared),
            _ => false,
        };
        same_qualifier && self.part_is(self.name, name)
    }

    /// Writes the folded last part into `buffer` and gives it back: the key of a hash look-up without an allocation.
    ///
    /// `None` if the name does not fit or holds a doubled quote.
    #[must_use]
    pub fn folded<'buffer>(&self, buffer: &'buffer mut [u8]) -> Option<&'buffer str> {
        let (inside, quoted) = unquote(self.name)?;
        let target = buffer.get_mut(..inside.len())?;
        target.copy_from_slice(inside.as_bytes());
        if !(quoted && self.case_matters) {
            target.make_ascii_lowercase();
        }
        std::str::from_utf8(target).ok()
    }

    /// Whether `schema`, as the catalogue stores it, is the part before the last dot.
    pub(crate) fn is_in(&self, schema: &str) -> bool {
        self.qualifier.is_some_and(|written| self.part_is(written, schema))
    }

    fn part_is(&self, written: &str, declared: &str) -> bool {
        match unquote(written) {
            Some((inside, true)) if self.case_matters => inside == declared,
            Some((inside, _)) => inside.eq_ignore_ascii_case(declared),
            None => false,
        }
    }
}

/// The inside of a name and whether the name was quoted; `None` if unquoting takes a copy.
fn unquote(written: &str) -> Option<(&str, bool)> {
    let open = written.chars().next()?;
    let close = match open {
        '"' | '`' => open,
        '[' => ']',
        // `a.b` is two names, `U&"…"` has escapes.
        _ if written.contains(['.', '"', '`', ' ', '/', '-', '\n', '\t', '\r']) => return None,
        _ => return Some((written, false)),
    };
    let inside = written.get(1..)?.strip_suffix(close)?;
    (!inside.contains(close)).then_some((inside, true))
}

/// Knows which user functions are harmless: they neither write, nor lock, nor depend on the session.
///
/// The classifier asks about calls that are no built-in. A closure implements the trait:
///
/// ```
/// # use sea_orm::DbBackend;
/// # use sea_orm_resolver::{FunctionName, Intent, classify_with};
/// let mine = |call: &FunctionName<'_>| call.is("full_name") || call.is("shop.price_of");
/// let seen = classify_with("SELECT shop.price_of(7)", DbBackend::Postgres, &mine);
/// assert_eq!(seen.intent, Intent::Read);
/// ```
pub trait KnownFunctions {
    /// Whether a call of this function is harmless, whatever its arguments.
    fn is_harmless(&self, call: &FunctionName<'_>) -> bool;

    /// Whether the call of a built-in, by its bare name, may mean a user function of that name that takes other
    /// arguments and is not harmless. Called only while [`redefines_built_ins`](Self::redefines_built_ins) is true.
    fn redefines(&self, call: &FunctionName<'_>) -> bool {
        let _ = call;
        false
    }

    /// Whether such a user function exists at all. Called once for a text.
    fn redefines_built_ins(&self) -> bool {
        false
    }
}

impl<F: Fn(&FunctionName<'_>) -> bool> KnownFunctions for F {
    fn is_harmless(&self, call: &FunctionName<'_>) -> bool {
        self(call)
    }
}

/// Knows no user function.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BuiltInsOnly;

impl KnownFunctions for BuiltInsOnly {
    fn is_harmless(&self, _call: &FunctionName<'_>) -> bool {
        false
    }
}
