//! The functions of bake files (go-cty's standard library, as far as build files use it).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hcl::eval::{Func, FuncArgs};
use hcl::{Map, Number, Value};
use sha2::Digest as _;

use crate::time;

/// A function by its name.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) call: Func,
}

/// The longest text that an expression makes, in bytes.
pub(crate) const MAX_TEXT: usize = 1 << 18;

/// The longest list that a function makes.
const MAX_ITEMS: usize = 10_000;

type Outcome = Result<Value, String>;

macro_rules! functions {
    ($($name:ident: $call:expr,)*) => {
        /// All of them.
        pub(crate) const ALL: &[Function] = &[
            $(Function { name: stringify!($name), call: $call },)*
        ];
    };
}

functions! {
    add: |args| number(float(&args, 0)? + float(&args, 1)?),
    subtract: |args| number(float(&args, 0)? - float(&args, 1)?),
    multiply: |args| number(float(&args, 0)? * float(&args, 1)?),
    divide: |args| number(float(&args, 0)? / float(&args, 1)?),
    modulo: |args| number(float(&args, 0)? % float(&args, 1)?),
    negate: |args| number(-float(&args, 0)?),
    absolute: |args| number(float(&args, 0)?.abs()),
    ceil: |args| number(float(&args, 0)?.ceil()),
    floor: |args| number(float(&args, 0)?.floor()),
    int: |args| number(float(&args, 0)?.trunc()),
    signum: |args| number(float(&args, 0)?.signum()),
    max: |args| extreme(&args, f64::max),
    min: |args| extreme(&args, f64::min),
    equal: |args| Ok(Value::Bool(any(&args, 0)? == any(&args, 1)?)),
    notequal: |args| Ok(Value::Bool(any(&args, 0)? != any(&args, 1)?)),
    lessthanorequalto: |args| Ok(Value::Bool(float(&args, 0)? <= float(&args, 1)?)),
    greaterthanorequalto: |args| Ok(Value::Bool(float(&args, 0)? >= float(&args, 1)?)),
    log: |args| number(float(&args, 0)?.ln() / float(&args, 1)?.ln()),
    pow: |args| number(float(&args, 0)?.powf(float(&args, 1)?)),
    parseint: |args| parseint(&args),
    lessthan: |args| Ok(Value::Bool(float(&args, 0)? < float(&args, 1)?)),
    greaterthan: |args| Ok(Value::Bool(float(&args, 0)? > float(&args, 1)?)),
    and: |args| Ok(Value::Bool(flag(&args, 0)? && flag(&args, 1)?)),
    or: |args| Ok(Value::Bool(flag(&args, 0)? || flag(&args, 1)?)),
    not: |args| Ok(Value::Bool(!flag(&args, 0)?)),
    upper: |args| Ok(text(&args, 0)?.to_uppercase().into()),
    lower: |args| Ok(text(&args, 0)?.to_lowercase().into()),
    title: |args| Ok(title(&text(&args, 0)?).into()),
    trimspace: |args| Ok(text(&args, 0)?.trim().to_owned().into()),
    trim: |args| {
        let set = text(&args, 1)?;
        Ok(text(&args, 0)?.trim_matches(|c| set.contains(c)).to_owned().into())
    },
    trimprefix: |args| {
        let (own, cut) = (text(&args, 0)?, text(&args, 1)?);
        Ok(own.strip_prefix(&cut).unwrap_or(&own).to_owned().into())
    },
    trimsuffix: |args| {
        let (own, cut) = (text(&args, 0)?, text(&args, 1)?);
        Ok(own.strip_suffix(&cut).unwrap_or(&own).to_owned().into())
    },
    strlen: |args| Ok(Value::from(text(&args, 0)?.chars().count())),
    substr: |args| substr(&args),
    replace: |args| replace(&text(&args, 0)?, &text(&args, 1)?, &text(&args, 2)?),
    reverse: |args| Ok(text(&args, 0)?.chars().rev().collect::<String>().into()),
    join: |args| join(&args),
    split: |args| {
        let separator = text(&args, 0)?;
        Ok(texts(text(&args, 1)?.split(&separator)))
    },
    chomp: |args| Ok(text(&args, 0)?.trim_end_matches(['\n', '\r']).to_owned().into()),
    indent: |args| {
        let spaces = float(&args, 0)? as usize;
        fits(spaces)?;
        replace(&text(&args, 1)?, "\n", &format!("\n{}", " ".repeat(spaces)))
    },
    format: |args| format(&text(&args, 0)?, &args[1..]).map(Value::from),
    formatlist: |args| formatlist(&args),
    regex: |args| regex_first(&args),
    regexall: |args| regex_all(&args),
    regex_replace: |args| {
        let (own, pattern, by) = (text(&args, 0)?, regex(&text(&args, 1)?)?, text(&args, 2)?);
        // A replacement may have the whole match in each of its groups.
        let groups = by.matches('$').count();
        let most = pattern.find_iter(&own).count().saturating_mul(by.len());
        fits(most.saturating_add(groups.saturating_mul(own.len())))?;
        Ok(pattern.replace_all(&own, by).into_owned().into())
    },
    urlencode: |args| Ok(urlencode(&text(&args, 0)?).into()),
    basename: |args| Ok(text(&args, 0)?.rsplit('/').next().unwrap_or_default().to_owned().into()),
    dirname: |args| {
        let path = text(&args, 0)?;
        Ok(path.rsplit_once('/').map_or(".", |(above, _)| above).to_owned().into())
    },
    length: |args| match any(&args, 0)? {
        Value::Array(items) => Ok(Value::from(items.len())),
        Value::Object(fields) => Ok(Value::from(fields.len())),
        Value::String(text) => Ok(Value::from(text.chars().count())),
        _ => Err("length needs a list or an object".to_owned()),
    },
    concat: |args| {
        let lists: Result<Vec<Vec<Value>>, String> = (0..args.len()).map(|at| list(&args, at)).collect();
        Ok(Value::Array(lists?.concat()))
    },
    flatten: |args| Ok(Value::Array(flatten(&list(&args, 0)?))),
    distinct: |args| {
        let mut seen: Vec<Value> = Vec::new();
        for item in list(&args, 0)? {
            if !seen.contains(&item) {
                seen.push(item);
            }
        }
        Ok(Value::Array(seen))
    },
    contains: |args| Ok(Value::Bool(list(&args, 0)?.contains(any(&args, 1)?))),
    compact: |args| {
        let mut items = list(&args, 0)?;
        items.retain(|item| !matches!(item, Value::Null) && item.as_str() != Some(""));
        Ok(Value::Array(items))
    },
    sort: |args| {
        let mut items: Vec<String> = list(&args, 0)?.iter().map(shown).collect();
        items.sort();
        Ok(texts(items.iter().map(String::as_str)))
    },
    reverselist: |args| Ok(Value::Array(list(&args, 0)?.into_iter().rev().collect())),
    slice: |args| {
        let items = list(&args, 0)?;
        let (from, to) = (float(&args, 1)? as usize, float(&args, 2)? as usize);
        let part = items.get(from..to).ok_or("slice: out of range")?;
        Ok(Value::Array(part.to_vec()))
    },
    chunklist: |args| {
        let size = (float(&args, 1)? as usize).max(1);
        let items = list(&args, 0)?;
        Ok(Value::Array(items.chunks(size).map(|part| Value::Array(part.to_vec())).collect()))
    },
    element: |args| {
        let items = list(&args, 0)?;
        let at = float(&args, 1)? as usize;
        let count = items.len().max(1);
        items.get(at % count).cloned().ok_or_else(|| "element: the list is empty".to_owned())
    },
    index: |args| lookup(any(&args, 0)?, any(&args, 1)?).ok_or_else(|| "index: not there".to_owned()),
    hasindex: |args| Ok(Value::Bool(lookup(any(&args, 0)?, any(&args, 1)?).is_some())),
    lookup: |args| {
        let found = lookup(any(&args, 0)?, any(&args, 1)?);
        found.or_else(|| args.get(2).cloned()).ok_or_else(|| "lookup: not there".to_owned())
    },
    keys: |args| {
        let mut keys: Vec<String> = object(&args, 0)?.keys().cloned().collect();
        keys.sort();
        Ok(texts(keys.iter().map(String::as_str)))
    },
    values: |args| {
        let mut pairs: Vec<(String, Value)> = object(&args, 0)?.into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Value::Array(pairs.into_iter().map(|(_, value)| value).collect()))
    },
    merge: |args| {
        let mut all = Map::new();
        for at in 0..args.len() {
            all.extend(object(&args, at)?);
        }
        Ok(Value::Object(all))
    },
    zipmap: |args| {
        let keys = list(&args, 0)?;
        Ok(Value::Object(keys.iter().map(shown).zip(list(&args, 1)?).collect()))
    },
    range: |args| range(&args),
    coalesce: |args| {
        let mut given = args.iter().filter(|value| !matches!(value, Value::Null));
        given.next().cloned().ok_or_else(|| "coalesce: nothing is given".to_owned())
    },
    coalescelist: |args| {
        let mut given = args.iter().filter(|value| value.as_array().is_some_and(|all| !all.is_empty()));
        given.next().cloned().ok_or_else(|| "coalescelist: nothing is given".to_owned())
    },
    setunion: |args| sets(&args, |all, other| {
        let more = other.iter().filter(|item| !all.contains(item)).cloned();
        all.iter().cloned().chain(more).collect()
    }),
    setintersection: |args| sets(&args, |all, other| {
        all.iter().filter(|item| other.contains(item)).cloned().collect()
    }),
    setsubtract: |args| sets(&args, |all, other| {
        all.iter().filter(|item| !other.contains(item)).cloned().collect()
    }),
    setsymmetricdifference: |args| sets(&args, |all, other| {
        let own = all.iter().filter(|item| !other.contains(item));
        own.chain(other.iter().filter(|item| !all.contains(item))).cloned().collect()
    }),
    sethaselement: |args| Ok(Value::Bool(list(&args, 0)?.contains(any(&args, 1)?))),
    setproduct: |args| setproduct(&args),
    base64encode: |args| Ok(BASE64.encode(text(&args, 0)?).into()),
    base64decode: |args| {
        let bytes = BASE64.decode(text(&args, 0)?).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map(Value::from).map_err(|error| error.to_string())
    },
    md5: |args| Ok(hex::encode(md5::Md5::digest(text(&args, 0)?)).into()),
    sha1: |args| Ok(hex::encode(sha1::Sha1::digest(text(&args, 0)?)).into()),
    sha256: |args| Ok(hex::encode(sha2::Sha256::digest(text(&args, 0)?)).into()),
    sha512: |args| Ok(hex::encode(sha2::Sha512::digest(text(&args, 0)?)).into()),
    sanitize: |args| Ok(sanitize(&text(&args, 0)?).into()),
    timestamp: |_| time::now().map(Value::from),
    timeadd: |args| time::add(&text(&args, 0)?, &text(&args, 1)?).map(Value::from),
    formatdate: |args| time::format(&text(&args, 0)?, &text(&args, 1)?).map(Value::from),
    jsonencode: |args| serde_json::to_string(any(&args, 0)?).map(Value::from).map_err(|error| error.to_string()),
    jsondecode: |args| serde_json::from_str(&text(&args, 0)?).map_err(|error| error.to_string()),
    csvdecode: |args| csv(&text(&args, 0)?),
}

fn any(args: &FuncArgs, at: usize) -> Result<&Value, String> {
    args.get(at)
        .ok_or_else(|| format!("argument {} is missing", at + 1))
}

fn text(args: &FuncArgs, at: usize) -> Result<String, String> {
    match any(args, at)? {
        Value::Array(_) | Value::Object(_) => Err(format!("argument {} is not a string", at + 1)),
        value => Ok(shown(value)),
    }
}

/// An error for a text of this length that is too long to be made.
pub(crate) fn fits(length: usize) -> Result<(), String> {
    match length > MAX_TEXT {
        true => Err(format!("a text is longer than {MAX_TEXT} bytes")),
        false => Ok(()),
    }
}

fn replace(own: &str, what: &str, by: &str) -> Outcome {
    let most = own.matches(what).count().saturating_mul(by.len());
    fits(most.saturating_add(own.len()))?;
    Ok(own.replace(what, by).into())
}

fn float(args: &FuncArgs, at: usize) -> Result<f64, String> {
    let value = any(args, at)?;
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.ok_or_else(|| format!("argument {} is not a number", at + 1))
}

fn flag(args: &FuncArgs, at: usize) -> Result<bool, String> {
    match any(args, at)? {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(format!("argument {} is not true or false", at + 1)),
    }
}

fn list(args: &FuncArgs, at: usize) -> Result<Vec<Value>, String> {
    let found = any(args, at)?.as_array().cloned();
    found.ok_or_else(|| format!("argument {} is not a list", at + 1))
}

fn object(args: &FuncArgs, at: usize) -> Result<Map<String, Value>, String> {
    match any(args, at)? {
        Value::Object(fields) => Ok(fields.clone()),
        _ => Err(format!("argument {} is not an object", at + 1)),
    }
}

/// A number, whole where it is.
fn number(value: f64) -> Outcome {
    let whole = value as i64;
    if (whole as f64 - value).abs() < f64::EPSILON {
        return Ok(Value::from(whole));
    }
    let number = Number::from_f64(value).ok_or("the result is not a number")?;
    Ok(Value::Number(number))
}

fn extreme(args: &FuncArgs, choose: fn(f64, f64) -> f64) -> Outcome {
    let numbers: Result<Vec<f64>, String> = (0..args.len()).map(|at| float(args, at)).collect();
    let best = numbers?.into_iter().reduce(choose);
    number(best.ok_or("an argument is missing")?)
}

/// A value as text, as templates show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}

fn title(text: &str) -> String {
    let mut out = String::new();
    let mut starts = true;
    for c in text.chars() {
        match starts {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        starts = !c.is_alphanumeric();
    }
    out
}

fn substr(args: &FuncArgs) -> Outcome {
    let chars: Vec<char> = text(args, 0)?.chars().collect();
    let count = chars.len() as f64;
    let offset = float(args, 1)?;
    let from = if offset < 0.0 { count + offset } else { offset }.clamp(0.0, count);
    let length = float(args, 2)?;
    let to = if length < 0.0 {
        count
    } else {
        (from + length).min(count)
    };
    Ok(chars[from as usize..to as usize]
        .iter()
        .collect::<String>()
        .into())
}

fn join(args: &FuncArgs) -> Outcome {
    let separator = text(args, 0)?;
    let mut all = Vec::new();
    for at in 1..args.len() {
        all.extend(list(args, at)?.iter().map(shown));
    }
    let texts: usize = all.iter().map(String::len).sum();
    fits(texts.saturating_add(separator.len().saturating_mul(all.len())))?;
    Ok(all.join(&separator).into())
}

fn flatten(items: &[Value]) -> Vec<Value> {
    let flat = items.iter().flat_map(|item| match item {
        Value::Array(inner) => flatten(inner),
        other => vec![other.clone()],
    });
    flat.collect()
}

fn lookup(container: &Value, key: &Value) -> Option<Value> {
    match container {
        Value::Array(items) => items.get(usize::try_from(key.as_u64()?).ok()?).cloned(),
        Value::Object(fields) => fields.get(key.as_str()?).cloned(),
        _ => None,
    }
}

fn range(args: &FuncArgs) -> Outcome {
    let (from, to) = match args.len() {
        1 => (0.0, float(args, 0)?),
        _ => (float(args, 0)?, float(args, 1)?),
    };
    let step = match args.get(2) {
        Some(_) => float(args, 2)?,
        None if from > to => -1.0,
        None => 1.0,
    };
    if step == 0.0 || ((to - from) / step) > 1024.0 {
        return Err("range: more than 1024 numbers".to_owned());
    }
    let mut all = Vec::new();
    let mut at = from;
    while (step > 0.0 && at < to) || (step < 0.0 && at > to) {
        all.push(number(at)?);
        at += step;
    }
    Ok(Value::Array(all))
}

/// `%s`, `%d`, `%v`, `%q`, `%05.2f`, `%%` and their kin.
fn format(pattern: &str, args: &[Value]) -> Result<String, String> {
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

fn formatlist(args: &FuncArgs) -> Outcome {
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

fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(pattern).map_err(|error| error.to_string())
}

/// The whole match, or what its groups matched: a list, or an object by their names.
fn matched(pattern: &regex::Regex, found: &regex::Captures<'_>) -> Value {
    let value =
        |part: Option<regex::Match<'_>>| part.map_or(Value::Null, |part| part.as_str().into());
    let group = |at: usize| value(found.get(at));
    let names: Vec<&str> = pattern.capture_names().flatten().collect();
    if !names.is_empty() {
        let own = names.iter();
        let own = own.map(|name| ((*name).to_owned(), value(found.name(name))));
        return Value::Object(own.collect());
    }
    match pattern.captures_len() {
        1 => group(0),
        count => Value::Array((1..count).map(group).collect()),
    }
}

fn regex_first(args: &FuncArgs) -> Outcome {
    let (pattern, text) = (regex(&text(args, 0)?)?, text(args, 1)?);
    let found = pattern.captures(&text).ok_or("regex: there is no match")?;
    Ok(matched(&pattern, &found))
}

fn regex_all(args: &FuncArgs) -> Outcome {
    let (pattern, text) = (regex(&text(args, 0)?)?, text(args, 1)?);
    let all = pattern.captures_iter(&text);
    Ok(Value::Array(
        all.map(|found| matched(&pattern, &found)).collect(),
    ))
}

fn urlencode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Rows of comma-separated values (RFC 4180), as objects by the names in the first.
fn csv(text: &str) -> Outcome {
    let mut rows = csv_rows(text).into_iter();
    let head = rows.next().unwrap_or_default();
    let rows = rows.map(|row| {
        let own = head.iter().cloned().zip(row.into_iter().map(Value::from));
        Value::Object(own.collect())
    });
    Ok(Value::Array(rows.collect()))
}

fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut rest = text.trim_end_matches(['\n', '\r']).chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quoted) {
            ('"', true) if rest.next_if_eq(&'"').is_some() => push(&mut rows, '"'),
            ('"', _) => quoted = !quoted,
            (',', false) => {
                if let Some(row) = rows.last_mut() {
                    row.push(String::new());
                }
            }
            ('\r', false) if rest.peek() == Some(&'\n') => {}
            ('\n', false) => rows.push(vec![String::new()]),
            (c, _) => push(&mut rows, c),
        }
    }
    rows
}

fn push(rows: &mut [Vec<String>], c: char) {
    if let Some(field) = rows.last_mut().and_then(|row| row.last_mut()) {
        field.push(c);
    }
}

fn parseint(args: &FuncArgs) -> Outcome {
    let (text, base) = (text(args, 0)?, float(args, 1)?);
    if !(2.0..=36.0).contains(&base) {
        return Err("parseint: the base is from 2 to 36".to_owned());
    }
    let number = i64::from_str_radix(&text, base as u32);
    let number = number.map_err(|_| format!("parseint: '{text}' is no number of base {base}"))?;
    Ok(number.into())
}

/// Applies an operation of sets to the first and each further argument; sets are sorted.
fn sets(args: &FuncArgs, combine: fn(&[Value], &[Value]) -> Vec<Value>) -> Outcome {
    let mut all = list(args, 0)?;
    for at in 1..args.len() {
        all = combine(&all, &list(args, at)?);
    }
    all.sort_by_key(shown);
    all.dedup();
    Ok(Value::Array(all))
}

fn setproduct(args: &FuncArgs) -> Outcome {
    let mut all: Vec<Vec<Value>> = vec![Vec::new()];
    for at in 0..args.len() {
        let items = list(args, at)?;
        if all.len().saturating_mul(items.len()) > MAX_ITEMS {
            return Err(format!("setproduct: more than {MAX_ITEMS} items"));
        }
        let longer = all.iter().flat_map(|one| {
            let with = |item: &Value| [one.as_slice(), std::slice::from_ref(item)].concat();
            items.iter().map(with)
        });
        all = longer.collect();
    }
    Ok(Value::Array(all.into_iter().map(Value::Array).collect()))
}

/// A text in which only letters, digits, `-` and `_` are left.
fn sanitize(text: &str) -> String {
    let keep = |c: char| match c.is_ascii_alphanumeric() || "-_".contains(c) {
        true => c,
        false => '_',
    };
    text.chars().map(keep).collect()
}
