//! The functions of bake files (go-cty's standard library, as far as build files use it).

mod collection;
mod csv;
mod format;
mod pattern;
mod string;
mod value;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hcl::eval::Func;
use hcl::{Map, Value};
use sha2::Digest as _;

use crate::time;

use collection::{extreme, flatten, lookup, range, setproduct, sets};
use csv::csv;
use format::{format, formatlist};
use pattern::{regex, regex_all, regex_first};
use string::{join, parseint, replace, sanitize, substr, texts, title, urlencode};
use value::{any, flag, float, list, number, object, text};

pub(crate) use string::fits;
pub(crate) use value::shown;

/// A function by its name.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) call: Func,
}

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
