//! `format` and `formatlist`: the verbs of go-cty.

use hcl::Value;
use hcl::eval::FuncArgs;

use super::string::fits;
use super::value::{Outcome, shown, text};

/// `%s`, `%d`, `%v`, `%q`, `%05.2f`, `%%` and their kin.
pub(super) fn format(pattern: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = pattern.chars().peekable();
    let mut given = args.iter();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut options = String::new();
        while let Some(option) = rest.next_if(|c| c.is_ascii_digit() || "-+ .#".contains(*c)) {
            options.push(option);
        }
        let verb = rest.next().ok_or("format: a verb is missing after %")?;
        let value = given.next().ok_or("format: too few arguments")?;
        out.push_str(&formatted(verb, &options, value)?);
        fits(out.len())?;
    }
    Ok(out)
}

fn formatted(verb: char, options: &str, value: &Value) -> Result<String, String> {
    let float = || {
        let own = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        own.ok_or_else(|| format!("format: {value} is not a number"))
    };
    let (width, precision) = options.split_once('.').unwrap_or((options, ""));
    let decimals: usize = precision.parse().unwrap_or(6);
    fits(decimals)?;
    let text = match verb {
        's' | 'v' => shown(value),
        'd' => format!("{:.0}", float()?.trunc()),
        'f' => format!("{:.*}", decimals, float()?),
        'x' => format!("{:x}", float()? as i64),
        'X' => format!("{:X}", float()? as i64),
        'o' => format!("{:o}", float()? as i64),
        'b' => format!("{:b}", float()? as i64),
        'q' => format!("{:?}", shown(value)),
        't' => shown(value),
        other => return Err(format!("format: unknown verb %{other}")),
    };
    let fill = if width.starts_with('0') { '0' } else { ' ' };
    let left = width.starts_with('-');
    let columns: usize = width
        .trim_start_matches(['-', '+', '0'])
        .parse()
        .unwrap_or(0);
    fits(columns)?;
    let missing = columns.saturating_sub(text.chars().count());
    let padding: String = std::iter::repeat_n(fill, missing).collect();
    Ok(match left {
        true => text + &" ".repeat(missing),
        false => padding + &text,
    })
}

pub(super) fn formatlist(args: &FuncArgs) -> Outcome {
    let pattern = text(args, 0)?;
    let lists = args[1..].iter().filter_map(Value::as_array);
    let count = lists.map(Vec::len).max().unwrap_or(1);
    let mut all = Vec::new();
    for at in 0..count {
        let own: Vec<Value> = args[1..]
            .iter()
            .map(|arg| match arg {
                Value::Array(items) => items.get(at).cloned().unwrap_or_default(),
                other => other.clone(),
            })
            .collect();
        all.push(Value::from(format(&pattern, &own)?));
    }
    Ok(Value::Array(all))
}
