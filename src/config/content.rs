//! A configuration as a format gives it, and errors about it that repeat no value.
//!
//! A format quotes what it could not read: serde names the wrong value, and `toml` prints the whole line, on which a URL
//! with a password may stand. So reading a configuration never fails for a value: the mistake is kept beside the rest,
//! and the use of the configuration fails with an error that names the field.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};

/// A value of a configuration in whatever format.
#[derive(Clone)]
pub(super) enum Content {
    Nothing,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Content>),
    Table(Vec<(String, Content)>),
}

/// The first mistake in a configuration. Repeats no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The field below the table that was read; `None` for the table itself.
    pub(super) field: Option<String>,
    pub(super) text: String,
}

impl Problem {
    fn new(text: impl Into<String>) -> Self {
        Self { field: None, text: text.into() }
    }

    /// The field, where the table is the whole configuration.
    pub(super) fn path(&self) -> String {
        self.field.clone().unwrap_or_else(|| "configuration".to_owned())
    }

    /// The path of the field, where the table is a part of the configuration.
    pub(super) fn path_below(&self, place: &str) -> String {
        self.field.as_ref().map_or_else(|| place.to_owned(), |field| format!("{place}.{field}"))
    }
}

impl Content {
    /// Reads a table field by field: the fields that can be read, and the first mistake. A `T` has a default for each
    /// field.
    pub(super) fn into_fields<T>(
        self,
        read: impl Fn(Content) -> Result<T, Problem>,
    ) -> Result<(T, Option<Problem>), Problem> {
        let Self::Table(fields) = self else { return Err(Problem::new("a table is expected")) };
        let (mut good, mut first) = (Vec::with_capacity(fields.len()), None);
        for (name, value) in fields {
            let alone = Self::Table(vec![(name.clone(), value.clone())]);
            match read(alone) {
                Ok(_) => good.push((name, value)),
                Err(problem) if first.is_none() => first = Some(Problem { field: Some(shown(&name)), ..problem }),
                Err(_) => {}
            }
        }
        match read(Self::Table(good)) {
            Ok(fields) => Ok((fields, first)),
            // Two fields that contradict each other: one that stands twice.
            Err(problem) => Err(first.unwrap_or(problem)),
        }
    }
}

/// The name of a field for an error. A text that is no word may be a value that slipped.
fn shown(name: &str) -> String {
    let is_word =
        name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_word { name.to_owned() } else { "(a field whose name is no word)".to_owned() }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a configuration")
            }

            fn visit_unit<E>(self) -> Result<Content, E> {
                Ok(Content::Nothing)
            }

            fn visit_none<E>(self) -> Result<Content, E> {
                Ok(Content::Nothing)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
                Content::deserialize(deserializer)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
                Content::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
                Ok(Content::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
                Ok(Content::Unsigned(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
                Ok(Content::Signed(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
                Ok(Content::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Content, E> {
                Ok(Content::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Content, E> {
                Ok(Content::Text(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Content::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Content::Table(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl de::Error for Problem {
    /// The messages of this crate, which repeat no value.
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("the value is of another kind; {expected} is expected"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("the value cannot be used; {expected} is expected"))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("the value has another length; {expected} is expected"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("it must be one of {}", expected.join(", ")))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("no field has this name; the fields are {}", expected.join(", ")))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

impl IntoDeserializer<'_, Problem> for Content {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Numbers and truth values may come as texts: environment variables have no other kind.
macro_rules! from_texts {
    ($($method:ident => $visit:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            match &self {
                Self::Text(text) => match text.trim().parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => self.deserialize_any(visitor),
                },
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Content {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self {
            Self::Nothing => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Self::Table(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self {
            Self::Nothing => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self {
            Self::Text(text) => StringDeserializer::new(text).deserialize_enum(name, variants, visitor),
            _ => Err(Problem::new(format!("it must be one of {}", variants.join(", ")))),
        }
    }

    from_texts! {
        deserialize_bool => visit_bool,
        deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64,
        deserialize_f64 => visit_f64,
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}
