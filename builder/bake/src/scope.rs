//! Evaluates expressions with variables and functions.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hcl::Value;
use hcl::eval::{Context, Evaluate as _, FuncArgs, FuncDef, ParamType};
use hcl::expr::Expression;

use crate::budget;
use crate::document::UserFunction;
use crate::function::{self, Function};

/// How many functions files may define.
const MAX_FUNCTIONS: usize = 32;
/// How deep functions of files may call each other.
const MAX_DEPTH: usize = 32;
/// What a call of one costs, besides the variables that are copied for it.
const CALL: usize = 1000;

/// What names stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) vars: BTreeMap<String, Value>,
    functions: Vec<UserFunction>,
}

thread_local! {
    /// The scope whose functions are called by [`called`], and how deep.
    static CURRENT: RefCell<(Scope, usize)> = RefCell::default();
}

impl Scope {
    pub(crate) fn new(functions: Vec<UserFunction>) -> Result<Self, String> {
        if functions.len() > MAX_FUNCTIONS {
            return Err(format!("more than {MAX_FUNCTIONS} functions are defined"));
        }
        Ok(Self {
            vars: BTreeMap::new(),
            functions,
        })
    }

    /// This scope with more variables.
    pub(crate) fn with(&self, vars: impl IntoIterator<Item = (String, Value)>) -> Self {
        let mut scope = self.clone();
        scope.vars.extend(vars);
        scope
    }

    pub(crate) fn evaluate(&self, expression: &Expression) -> Result<Value, String> {
        CURRENT.with(|current| current.borrow_mut().0 = self.clone());
        budget::begin();
        self.evaluate_inner(expression)
    }

    fn evaluate_inner(&self, expression: &Expression) -> Result<Value, String> {
        let mut context = Context::new();
        for (name, value) in &self.vars {
            if hcl::Identifier::new(name.as_str()).is_ok() {
                context.declare_var(name.as_str(), value.clone());
            }
        }
        for Function { name, call } in function::ALL {
            context.declare_func(*name, any(*call));
        }
        for (number, function) in self.functions.iter().enumerate() {
            context.declare_func(function.name.as_str(), any(CALLS[number]));
        }
        context.declare_func(budget::COUNTED, any(budget::counted));
        let settled = budget::metered(&self.settled(expression)?);
        let value = settled.evaluate(&context);
        let value = value.map_err(|error| budget::shown(error.to_string()))?;
        function::fits(budget::length(&value))?;
        Ok(value)
    }

    /// What a call of a function costs.
    fn cost(&self) -> usize {
        let variables: usize = self.vars.values().map(budget::length).sum();
        CALL + variables / 16
    }

    /// An expression with the calls of `try` and `can` in it evaluated: the evaluator would evaluate
    /// their arguments first, and fail with these.
    fn settled(&self, expression: &Expression) -> Result<Expression, String> {
        let inside = |all: &[Expression]| -> Result<Vec<Expression>, String> {
            all.iter().map(|one| self.settled(one)).collect()
        };
        Ok(match expression {
            Expression::FuncCall(call) if call.name.name.as_str() == "can" => {
                let first = call.args.first().ok_or("can needs an argument")?;
                Expression::Bool(self.evaluate_inner(first).is_ok())
            }
            Expression::FuncCall(call) if call.name.name.as_str() == "try" => {
                let mut values = call.args.iter().map(|arg| self.evaluate_inner(arg));
                let value = values.find_map(Result::ok);
                value
                    .ok_or("try: none of its arguments can be evaluated")?
                    .into()
            }
            Expression::FuncCall(call) => {
                let mut call = call.clone();
                call.args = inside(&call.args)?;
                Expression::FuncCall(call)
            }
            Expression::Array(items) => Expression::Array(inside(items)?),
            Expression::Object(fields) => {
                let field = |(key, value): (&hcl::expr::ObjectKey, &Expression)| {
                    Ok((key.clone(), self.settled(value)?))
                };
                Expression::Object(fields.iter().map(field).collect::<Result<_, String>>()?)
            }
            Expression::Parenthesis(inner) => self.settled(inner)?,
            other => other.clone(),
        })
    }
}

fn any(call: hcl::eval::Func) -> FuncDef {
    FuncDef::builder()
        .variadic_param(ParamType::Any)
        .build(call)
}

/// Calls the function with this number. The evaluator takes plain function pointers only.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the evaluator calls functions so"
)]
fn called<const NUMBER: usize>(args: FuncArgs) -> Result<Value, String> {
    let (scope, depth) = CURRENT.with(|current| {
        let mut current = current.borrow_mut();
        current.1 += 1;
        (current.0.clone(), current.1)
    });
    let result = match depth > MAX_DEPTH {
        true => Err("functions call each other too deeply".to_owned()),
        false => {
            budget::spend(scope.cost()).and_then(|()| scope.functions[NUMBER].call(&scope, &args))
        }
    };
    CURRENT.with(|current| current.borrow_mut().1 -= 1);
    result
}

impl UserFunction {
    fn call(&self, scope: &Scope, args: &[Value]) -> Result<Value, String> {
        let count = self.params.len();
        if args.len() < count || (args.len() > count && self.variadic.is_none()) {
            return Err(format!("{} takes {count} arguments", self.name));
        }
        let own = self.params.iter().cloned().zip(args.iter().cloned());
        let rest = self
            .variadic
            .iter()
            .map(|name| (name.clone(), Value::Array(args[count..].to_vec())));
        scope.with(own.chain(rest)).evaluate_inner(&self.result)
    }
}

macro_rules! calls {
    ($($number:literal)*) => { [$(called::<$number>),*] };
}

const CALLS: [hcl::eval::Func; MAX_FUNCTIONS] = calls!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
);
