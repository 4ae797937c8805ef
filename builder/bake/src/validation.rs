//! What a variable must be: its `validation` blocks
//! (<https://docs.docker.com/build/bake/reference/#variable>), with the words of buildx.

use hcl::Value;
use hcl::expr::{Expression, ObjectKey};

use crate::function::shown;
use crate::scope::Scope;

/// A condition that must hold, and what is said when it doesn't.
#[derive(Clone, Debug)]
pub(crate) struct Validation {
    pub(crate) variable: String,
    condition: Expression,
    message: Expression,
}

impl Validation {
    /// Reads a block, or a list of blocks as JSON has it.
    pub(crate) fn read(variable: &str, blocks: &Expression) -> Result<Vec<Self>, String> {
        let blocks = match blocks {
            Expression::Array(blocks) => blocks.as_slice(),
            one => std::slice::from_ref(one),
        };
        let one = |block: &Expression| Self::read_one(variable, block);
        let all: Result<_, String> = blocks.iter().map(one).collect();
        all.map_err(|reason| format!("variable {variable}: validation: {reason}"))
    }

    fn read_one(variable: &str, block: &Expression) -> Result<Self, String> {
        let Expression::Object(fields) = block else {
            return Err("an object is needed".to_owned());
        };
        let (mut condition, mut message) = (None, None);
        for (key, value) in fields {
            match name(key) {
                "condition" => condition = Some(value.clone()),
                "error_message" => message = Some(value.clone()),
                other => return Err(unsupported(other)),
            }
        }
        let missing = |name: &str| {
            format!(
                "Missing required argument; The argument \"{name}\" is required, but no definition was found."
            )
        };
        Ok(Self {
            variable: variable.to_owned(),
            condition: condition.ok_or_else(|| missing("condition"))?,
            message: message.ok_or_else(|| missing("error_message"))?,
        })
    }

    /// Whether the condition holds.
    pub(crate) fn check(&self, scope: &Scope) -> Result<(), String> {
        let holds = match scope.evaluate(&self.condition)? {
            Value::Bool(holds) => holds,
            Value::String(text) if text == "true" => true,
            Value::String(text) if text == "false" => false,
            other => {
                let value = match other {
                    Value::Null => "null".to_owned(),
                    other => shown(&other),
                };
                return Err(format!(
                    "Invalid condition result; Condition expression must return either true or false, not {value}."
                ));
            }
        };
        if holds {
            return Ok(());
        }
        let message = match scope.evaluate(&self.message)? {
            Value::Null => "This check failed, but has an invalid error message.".to_owned(),
            message => shown(&message),
        };
        Err(format!("Validation failed; {message}"))
    }
}

/// An attribute that a block doesn't have.
pub(crate) fn unsupported(name: &str) -> String {
    format!("Unsupported argument; An argument named \"{name}\" is not expected here.")
}

fn name(key: &ObjectKey) -> &str {
    match key {
        ObjectKey::Identifier(own) => own.as_str(),
        ObjectKey::Expression(Expression::String(own)) => own,
        _ => "",
    }
}
