//! The language as a JSON schema. `kiln.schema.json` is derived from the model by this file's test, so
//! that only tests need the crate that derives it.

/// The language as a JSON schema, for editors.
#[must_use]
pub fn schema() -> &'static str {
    include_str!("../kiln.schema.json")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator};

    use super::schema;
    use crate::BuildFile;
    use crate::text::{Name, Placed};

    impl<T: JsonSchema> JsonSchema for Placed<T> {
        fn schema_name() -> Cow<'static, str> {
            T::schema_name()
        }

        fn schema_id() -> Cow<'static, str> {
            T::schema_id()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            T::json_schema(generator)
        }

        fn inline_schema() -> bool {
            T::inline_schema()
        }
    }

    impl JsonSchema for Name {
        fn schema_name() -> Cow<'static, str> {
            String::schema_name()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            String::json_schema(generator)
        }

        fn inline_schema() -> bool {
            true
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "writes a file of the repository")]
    fn the_schema_is_that_of_the_model() {
        let mut derived = schemars::schema_for!(BuildFile);
        derived.insert("title".to_owned(), "kiln.toml".into());
        let derived = format!("{:#}\n", derived.to_value());
        if std::env::var_os("KILN_WRITE_DOCS").is_some() {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/kiln.schema.json");
            std::fs::write(file, &derived).unwrap();
        } else {
            assert_eq!(
                schema(),
                derived,
                "write it again with KILN_WRITE_DOCS=1 cargo test -p kiln-frontend-toml the_schema"
            );
        }
    }
}
