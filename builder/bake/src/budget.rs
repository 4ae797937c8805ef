//! Bounds what evaluating one expression may cost: loops in loops, functions that call each other, and texts that are
//! put together from others would take all time and memory.
//!
//! The evaluator can't be told to stop, but it calls functions. So whatever gives a value that may be large, or gives it
//! often, is made an argument of a function that counts it, and fails when that is too much.

use std::cell::Cell;

use hcl::Value;
use hcl::eval::FuncArgs;
use hcl::expr::{Expression, FuncCall, ObjectKey, Operation, TemplateExpr, TraversalOperator};
use hcl::template::{Directive, Element, Template};

/// The name of the function that counts.
pub(crate) const COUNTED: &str = "kiln_counted__";
/// What one expression may cost: bytes of texts, and one for anything else.
const MAX_COST: usize = 4 << 20;

thread_local! {
    static SPENT: Cell<usize> = const { Cell::new(0) };
}

/// An expression begins to be evaluated.
pub(crate) fn begin() {
    SPENT.set(0);
}

/// Counts something.
///
/// # Errors
/// When it is too much.
pub(crate) fn spend(cost: usize) -> Result<(), String> {
    let spent = SPENT.get().saturating_add(cost);
    SPENT.set(spent);
    match spent > MAX_COST {
        true => Err(format!(
            "it makes more than {MAX_COST} bytes of texts, or as many values"
        )),
        false => Ok(()),
    }
}

/// The bytes of all texts in a value, and one for anything else.
pub(crate) fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(length).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| key.len() + length(value))
            .sum(),
        _ => 1,
    }
}

/// Counts its first argument, and gives it. The second is what each item of it costs besides.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the evaluator calls functions so"
)]
pub(crate) fn counted(args: FuncArgs) -> Result<Value, String> {
    let value = args.first().cloned().unwrap_or_default();
    let items = match &value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 1,
    };
    let each = args.get(1).and_then(Value::as_u64).unwrap_or(0);
    let each = usize::try_from(each).unwrap_or(usize::MAX);
    spend(
        items
            .saturating_mul(each)
            .saturating_add(1 + length(&value)),
    )?;
    Ok(value)
}

/// The message of an error without the calls that count.
pub(crate) fn shown(mut message: String) -> String {
    message = message.replace(&format!("error calling function `{COUNTED}`: "), "");
    let call = format!("{COUNTED}(");
    while let Some(start) = message.find(&call) {
        let inside = &message[start + call.len()..];
        let mut depth = 1_usize;
        let end = inside.find(|c| {
            depth = match c {
                '(' => depth + 1,
                ')' => depth - 1,
                _ => depth,
            };
            depth == 0
        });
        let (inside, rest) = inside.split_at(end.unwrap_or(inside.len()));
        let rest = rest.strip_prefix(')').unwrap_or(rest);
        let inside = inside.rsplit_once(',').map_or(inside, |(value, _)| value);
        message = format!("{}{inside}{rest}", &message[..start]);
    }
    message
}

/// The same expression, counted.
pub(crate) fn metered(expression: &Expression) -> Expression {
    let mut expression = expression.clone();
    meter(&mut expression);
    expression
}

fn meter(expression: &mut Expression) {
    match expression {
        Expression::Null | Expression::Bool(_) | Expression::Number(_) | Expression::String(_) => {}
        Expression::Array(items) => items.iter_mut().for_each(meter),
        Expression::Object(fields) => {
            let all = std::mem::take(fields).into_iter();
            *fields = all
                .map(|(key, value)| (meter_key(key), metered(&value)))
                .collect();
        }
        Expression::TemplateExpr(template) => meter_text(template),
        Expression::Variable(_) => count(expression),
        Expression::Traversal(traversal) => {
            meter(&mut traversal.expr);
            for operator in &mut traversal.operators {
                if let TraversalOperator::Index(index) = operator {
                    meter(index);
                }
            }
        }
        Expression::FuncCall(call) => {
            call.args.iter_mut().for_each(meter);
            count(expression);
        }
        Expression::Parenthesis(inner) => meter(inner),
        Expression::Conditional(choice) => {
            meter(&mut choice.cond_expr);
            meter(&mut choice.true_expr);
            meter(&mut choice.false_expr);
        }
        Expression::Operation(operation) => match &mut **operation {
            Operation::Unary(one) => meter(&mut one.expr),
            Operation::Binary(two) => {
                meter(&mut two.lhs_expr);
                meter(&mut two.rhs_expr);
            }
        },
        Expression::ForExpr(each) => {
            let cost = each.value_expr.to_string().len();
            meter(&mut each.collection_expr);
            count_items(&mut each.collection_expr, cost);
            let others = [&mut each.key_expr, &mut each.cond_expr];
            let others = others.into_iter().flatten();
            for part in others.chain([&mut each.value_expr]) {
                meter(part);
                count(part);
            }
        }
        _ => {}
    }
}

fn meter_key(key: ObjectKey) -> ObjectKey {
    match key {
        ObjectKey::Expression(key) => ObjectKey::Expression(metered(&key)),
        other => other,
    }
}

/// Texts with a part that is evaluated are written anew. What can't be read fails when it is evaluated.
fn meter_text(text: &mut TemplateExpr) {
    let Ok(mut template) = Template::from_expr(text) else {
        return;
    };
    let is_plain = |element: &Element| matches!(element, Element::Literal(_));
    if !template.elements().iter().all(is_plain) {
        meter_template(&mut template);
        *text = TemplateExpr::QuotedString(template.to_string());
    }
}

fn meter_template(template: &mut Template) {
    for element in template.elements_mut() {
        match element {
            Element::Literal(_) => {}
            Element::Interpolation(part) => {
                meter(&mut part.expr);
                count(&mut part.expr);
            }
            Element::Directive(directive) => meter_directive(directive),
        }
    }
}

fn meter_directive(directive: &mut Directive) {
    match directive {
        Directive::If(choice) => {
            meter(&mut choice.cond_expr);
            meter_template(&mut choice.true_template);
            choice.false_template.iter_mut().for_each(meter_template);
        }
        Directive::For(each) => {
            let cost = each.template.to_string().len();
            meter(&mut each.collection_expr);
            count_items(&mut each.collection_expr, cost);
            meter_template(&mut each.template);
        }
    }
}

/// Makes an expression an argument of the function that counts.
fn count(expression: &mut Expression) {
    count_items(expression, 0);
}

/// The same for a collection, of which each item costs something besides.
fn count_items(expression: &mut Expression, cost: usize) {
    let inner = std::mem::replace(expression, Expression::Null);
    let call = FuncCall::builder(COUNTED).arg(inner).arg(cost as u64);
    *expression = Expression::from(call.build());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_counting() {
        let message = format!(
            "error calling function `{COUNTED}`: no {COUNTED}(f({COUNTED}(a, 0)), 12)[0] in {COUNTED}(b, 0)"
        );
        assert_eq!(shown(message), "no f(a)[0] in b");
    }
}
