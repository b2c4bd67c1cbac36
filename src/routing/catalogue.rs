//! The user functions that the database's own catalogue lists, and those that the user declared.

use std::collections::HashMap;

use super::{FunctionName, KnownFunctions, classify::is_harmless_on_postgres};

/// The length of the longest name: PostgreSQL cuts names at 63 bytes, MySQL at 64 characters.
const LONGEST_NAME: usize = 256;

/// The knowledge about functions that are not built in.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// The declared names, as the user wrote them: `name`, or `schema.name`.
    declared: Box<[String]>,
    /// The listed functions by name, as the catalogue stores the name.
    loaded: HashMap<Box<str>, Vec<Function>>,
    /// Whether a listed function is not harmless and has the name of a built-in.
    redefines: bool,
}

/// All functions of one name in one schema.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    schema: Box<str>,
    is_harmless: bool,
}

impl Catalogue {
    pub(super) fn declared(names: &[String]) -> Self {
        Self { declared: names.into(), ..Self::default() }
    }

    /// The same declarations, with the functions of a listing: lines of `r` (all functions of this
    /// name only read) or `w`, schema and name, separated by tabs.
    pub(super) fn with_listing(&self, listing: &str) -> Self {
        let mut loaded = HashMap::<Box<str>, Vec<Function>>::new();
        for line in listing.lines() {
            let mut fields = line.split('\t');
            if let (Some(kind), Some(schema), Some(name), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            {
                loaded
                    .entry(name.into())
                    .or_default()
                    .push(Function { schema: schema.into(), is_harmless: kind == "r" });
            }
        }
        let writes = |functions: &[Function]| functions.iter().any(|function| !function.is_harmless);
        let redefines =
            loaded.iter().any(|(name, functions)| writes(functions) && is_harmless_on_postgres(name.as_ref()));
        Self { declared: self.declared.clone(), redefines, loaded }
    }

    pub(super) fn is_same_listing(&self, other: &Self) -> bool {
        self.loaded == other.loaded
    }

    /// Whether the catalogue has a function of this name, harmless or not, in any schema.
    pub(super) fn lists(&self, call: &FunctionName<'_>) -> bool {
        self.find(call).is_some()
    }

    fn find(&self, call: &FunctionName<'_>) -> Option<&[Function]> {
        let mut buffer = [0; LONGEST_NAME];
        self.loaded.get(call.folded(&mut buffer)?).map(Vec::as_slice)
    }

    fn is_loaded_harmless(&self, call: &FunctionName<'_>) -> bool {
        let Some(functions) = self.find(call) else { return false };
        // The schema of an unqualified name depends on `search_path` and on the types of the arguments, so the
        // functions of this name in all schemas have to be harmless.
        let meant = |function: &&Function| call.qualifier().is_none() || call.is_in(&function.schema);
        let mut meant = functions.iter().filter(meant).peekable();
        meant.peek().is_some() && meant.all(|function| function.is_harmless)
    }
}

impl KnownFunctions for Catalogue {
    fn is_harmless(&self, call: &FunctionName<'_>) -> bool {
        self.declared.iter().any(|name| call.is(name)) || self.is_loaded_harmless(call)
    }

    fn redefines(&self, call: &FunctionName<'_>) -> bool {
        call.qualifier().is_none() && self.lists(call) && !self.is_harmless(call)
    }

    fn redefines_built_ins(&self) -> bool {
        self.redefines
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;

    use super::*;
    use crate::routing::{Intent, classify_with};

    #[test]
    fn a_function_that_has_the_name_of_a_built_in_and_writes_is_seen() {
        let catalogue = Catalogue::default().with_listing("w\tpublic\tlower\nr\tpublic\tupper\n");
        let intent = |sql: &str| classify_with(sql, DbBackend::Postgres, &catalogue).intent;
        for read in ["SELECT upper('a')", "SELECT pg_catalog.lower('a')", "SELECT length('a')"] {
            assert_eq!(intent(read), Intent::Read, "{read}");
        }
        for write in ["SELECT lower('a')", "SELECT LOWER(x)", "SELECT \"lower\"('a')", "SELECT public.lower('a')"] {
            assert_eq!(intent(write), Intent::Write, "{write}");
        }
    }

    #[test]
    fn a_name_is_harmless_when_every_function_it_may_mean_is() {
        let catalogue = Catalogue::declared(&["full_name".to_owned(), "shop.declared".to_owned()]).with_listing(
            "r\tpublic\tprice_of\nw\tpublic\tlog_it\nr\tshop\tmixed\nw\tpublic\tmixed\nr\tMy\tOdd\nnoise\n",
        );
        let intent = |sql: &str| classify_with(sql, DbBackend::Postgres, &catalogue).intent;
        for read in [
            "SELECT price_of(7)",
            "SELECT Price_Of(7)",
            "SELECT \"price_of\"(7)",
            "SELECT public.price_of(7)",
            "SELECT shop.mixed(7)",
            "SELECT \"My\".\"Odd\"(7)",
            "SELECT full_name(7)",
            "SELECT shop.declared(7)",
        ] {
            assert_eq!(intent(read), Intent::Read, "{read}");
        }
        for write in [
            "SELECT log_it(7)",
            "SELECT mixed(7)",
            "SELECT public.mixed(7)",
            "SELECT shop.price_of(7)",
            "SELECT \"Price_Of\"(7)",
            "SELECT odd(7)",
            "SELECT my.odd(7)",
            "SELECT nobody_knows(7)",
            "SELECT declared(7)",
            "SELECT price_of(log_it(7))",
        ] {
            assert_eq!(intent(write), Intent::Write, "{write}");
        }
    }
}
