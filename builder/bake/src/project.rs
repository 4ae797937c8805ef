//! All targets and groups of some files, evaluated; which are built, and what is said of them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::document::Document;
use crate::environment::Lookup;
use crate::evaluate::evaluate;
use crate::overrides::{Override, apply};
use crate::path::clean;
use crate::target::Target;
use crate::{BakeError, compose};

/// Targets and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    pub(crate) targets: BTreeMap<String, Own>,
    warnings: Vec<String>,
}

/// A target as its own block has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) inherits: Vec<String>,
    pub(crate) target: Target,
}

/// What is built: targets that are asked for, those whose results these use, and the groups that
/// were named. Serialized, it is what `docker buildx bake --print` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bake {
    /// The groups, by name.
    #[serde(rename = "group", skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Group>,
    /// The targets, by name.
    #[serde(rename = "target")]
    pub targets: BTreeMap<String, Target>,
    /// The targets that were asked for, in order.
    #[serde(skip)]
    pub wanted: Vec<String>,
}

/// A group as it is printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The targets and groups in it.
    pub targets: Vec<String>,
}

/// How many targets inherit from each other, need each other's results, or groups hold each other,
/// in a row.
const MAX_DEPTH: usize = 200;

impl Project {
    /// Evaluates what bake files define, beside the services of compose files.
    pub(crate) fn new(
        services: Option<Vec<compose::Service>>,
        document: Document,
        env: Lookup<'_>,
    ) -> Result<Self, BakeError> {
        let mut project = Self {
            warnings: document.warnings.clone(),
            ..Self::default()
        };
        if let Some(services) = &services {
            let names = services.iter().map(|(name, _)| name.clone()).collect();
            project.groups.insert("default".to_owned(), names);
        }
        for (name, attributes) in services.into_iter().flatten() {
            let mut target = Target::default();
            for (key, value) in attributes {
                let added = target.add(&key, value);
                added.map_err(|error| BakeError(format!("target {name}: {error}")))?;
            }
            let inherits = Vec::new();
            project.targets.insert(name, Own { inherits, target });
        }
        evaluate(&mut project, document, env)?;
        Ok(project)
    }

    /// What is probably a mistake in the files.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is built for some names of targets and groups; `default` when none is given.
    ///
    /// # Errors
    /// When there is no such target or group, or targets need each other.
    pub fn bake(
        &self,
        names: &[String],
        overrides: &[Override],
        env: Lookup<'_>,
    ) -> Result<Bake, BakeError> {
        self.check_patterns(overrides)?;
        let default = ["default".to_owned()];
        let names = if names.is_empty() { &default } else { names };
        let names: Vec<String> = names.iter().map(|name| name.replace('.', "_")).collect();
        let mut bake = Bake::default();
        for name in &names {
            self.expand(name, &mut Vec::new(), &mut bake)?;
        }
        let mut inheritance = Inheritance {
            project: self,
            overrides,
            env,
            done: BTreeMap::new(),
        };
        for name in bake.wanted.clone() {
            inheritance.add_linked(&name, &mut Vec::new(), &mut bake)?;
        }
        let others = names.iter().filter(|name| *name != "default");
        for name in others {
            let targets = &mut bake.groups.entry("default".to_owned()).or_default().targets;
            if !targets.contains(name) {
                targets.push(name.clone());
            }
        }
        Ok(bake)
    }

    fn check_patterns(&self, overrides: &[Override]) -> Result<(), BakeError> {
        let fits_none = |one: &&Override| !self.targets.keys().any(|name| one.fits(name));
        match overrides.iter().find(fits_none) {
            None => Ok(()),
            Some(one) => Err(BakeError(format!(
                "--set {}: no target has such a name; there are {}",
                one.pattern(),
                self.names()
            ))),
        }
    }

    fn names(&self) -> String {
        let all = self.targets.keys().chain(self.groups.keys());
        let all: Vec<&str> = all.map(String::as_str).collect();
        all.join(", ")
    }

    /// Adds the targets and groups that a name stands for.
    fn expand(
        &self,
        name: &str,
        above: &mut Vec<String>,
        bake: &mut Bake,
    ) -> Result<(), BakeError> {
        if bake.groups.contains_key(name) {
            return Ok(());
        }
        if let Some(members) = self.groups.get(name) {
            enter(name, above, || format!("the group {name} holds itself"))?;
            let mut targets: Vec<String> = Vec::new();
            for member in members {
                self.expand(member, above, bake)?;
                if !targets.contains(member) {
                    targets.push(member.clone());
                }
            }
            above.pop();
            bake.groups.insert(name.to_owned(), Group { targets });
            return Ok(());
        }
        if !self.targets.contains_key(name) {
            let known = self.names();
            let text = format!("there is no target or group {name}: there are {known}");
            return Err(BakeError(text));
        }
        if !bake.wanted.iter().any(|own| own == name) {
            bake.wanted.push(name.to_owned());
        }
        Ok(())
    }
}

/// Targets, one that inherits from another or needs its result a call inside of its call.
struct Inheritance<'a> {
    project: &'a Project,
    overrides: &'a [Override],
    env: Lookup<'a>,
    /// Targets with all that they inherit: one may be inherited on many ways.
    done: BTreeMap<String, Target>,
}

impl Inheritance<'_> {
    /// Adds a target, and those whose results are its contexts.
    fn add_linked(
        &mut self,
        name: &str,
        below: &mut Vec<String>,
        bake: &mut Bake,
    ) -> Result<(), BakeError> {
        if bake.targets.contains_key(name) {
            return Ok(());
        }
        enter(name, below, || {
            format!("target {name} needs its own result")
        })?;
        let mut target = self.target(name)?;
        // What is only another target's context goes nowhere else.
        if !bake.wanted.iter().any(|own| own == name) {
            target.remove("output");
        }
        for link in target.links() {
            self.add_linked(&link, below, bake)?;
        }
        below.pop();
        bake.targets.insert(name.to_owned(), target);
        Ok(())
    }

    /// A target with all that it inherits, and what `--set` says of it.
    fn target(&mut self, name: &str) -> Result<Target, BakeError> {
        let mut target = self.inherited(name, &mut Vec::new())?;
        let context = target.text("context").map_or_else(|| ".".to_owned(), clean);
        target.set("context", context.into());
        if target.text("dockerfile").is_none() {
            target.set("dockerfile", Value::from("Dockerfile"));
        }
        Ok(target)
    }

    fn inherited(&mut self, name: &str, below: &mut Vec<String>) -> Result<Target, BakeError> {
        if let Some(done) = self.done.get(name) {
            return Ok(done.clone());
        }
        let own = self.project.targets.get(name);
        let own = own.ok_or_else(|| BakeError(format!("there is no target {name}")))?;
        enter(name, below, || {
            format!("target {name} inherits from itself")
        })?;
        let mut target = Target::default();
        for parent in &own.inherits {
            target.merge(&self.inherited(parent, below)?);
        }
        below.pop();
        target.merge(&own.target);
        let sets = self.overrides.iter();
        let sets: Vec<&Override> = sets.filter(|set| set.fits(name)).collect();
        apply(&mut target, &sets, self.env);
        target.tidy();
        self.done.insert(name.to_owned(), target.clone());
        Ok(target)
    }
}

/// Adds a name to those that are being followed, unless it is one of them: `cycle` is what is wrong
/// then. A chain is followed call by call, and files may be a stranger's.
fn enter(
    name: &str,
    followed: &mut Vec<String>,
    cycle: impl FnOnce() -> String,
) -> Result<(), BakeError> {
    if followed.iter().any(|own| own == name) {
        return Err(BakeError(cycle()));
    }
    if followed.len() >= MAX_DEPTH {
        return Err(BakeError(format!(
            "{name} is more than {MAX_DEPTH} targets or groups deep"
        )));
    }
    followed.push(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, read};
    use serde_json::json;

    fn env(name: &str) -> Option<String> {
        (name == "FROM_ENV").then(|| "given".to_owned())
    }

    fn bake(files: &[(&str, &str)], names: &[&str], sets: &[&str]) -> Result<Bake, BakeError> {
        let source = |(name, text): &(&str, &str)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        };
        let sources: Vec<Source> = files.iter().map(source).collect();
        let sets = sets.iter().map(|set| set.parse());
        let sets: Vec<Override> = sets.collect::<Result<_, _>>()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        read(&sources, None, &env, &|_| Ok(None))?.bake(&names, &sets, &env)
    }

    fn printed(text: &str, names: &[&str], sets: &[&str]) -> Value {
        let bake = bake(&[("docker-bake.hcl", text)], names, sets).unwrap();
        serde_json::to_value(bake).unwrap()
    }

    /// Each target inherits from the one before on two ways: 2^60 of them.
    #[test]
    fn diamonds_are_followed_once() {
        let target = |n: usize| match n {
            0 => "target \"t0\" { tags = [\"a\"] }\n".to_owned(),
            n => format!(
                "target \"t{n}\" {{ inherits = [\"t{0}\", \"t{0}\"] }}\n",
                n - 1
            ),
        };
        let text: String = (0..60).map(target).collect();
        let printed = printed(&text, &["t59"], &[]);
        assert_eq!(printed["target"]["t59"]["tags"], json!(["a"]));
    }

    #[test]
    fn chains_have_bounds() {
        let target = |n: usize| format!("target \"t{n}\" {{ inherits = [\"t{}\"] }}\n", n + 1);
        let group = |n: usize| format!("group \"g{n}\" {{ targets = [\"g{}\"] }}\n", n + 1);
        let link = |n: usize| {
            format!(
                "target \"l{n}\" {{ contexts = {{ c = \"target:l{}\" }} }}\n",
                n + 1
            )
        };
        let all: [(&str, &dyn Fn(usize) -> String); 3] =
            [("t0", &target), ("g0", &group), ("l0", &link)];
        for (name, make) in all {
            let text: String = (0..20_000).map(make).collect();
            let error = bake(&[("docker-bake.hcl", &text)], &[name], &[]).unwrap_err();
            assert!(error.0.contains("deep"), "{name}: {error}");
        }
    }

    #[test]
    fn texts_have_bounds() {
        let double = |n: usize| {
            format!(
                "variable \"a{}\" {{ default = \"${{a{n}}}${{a{n}}}\" }}\n",
                n + 1
            )
        };
        let doubled: String = (0..40).map(double).collect();
        let expressions = [
            "a40",
            "format(\"%2000000000s\", a0)",
            "format(\"%.2000000000f\", 1)",
            "indent(2000000000, \"x\\ny\")",
            "replace(a10, \"x\", a10)",
            "regex_replace(a10, \"x\", a10)",
            "regex_replace(a10, \".*\", join(\"\", [for n in range(1000): \"$0\"]))",
            "join(a10, [for n in range(1000): a0])",
        ];
        for expression in expressions {
            let text = format!(
                "variable \"a0\" {{ default = \"xxxxxxxxxxxxxxxx\" }}\n{doubled}target \"t\" {{ args = {{ A = {expression} }} }}\n"
            );
            let error = bake(&[("docker-bake.hcl", &text)], &["t"], &[]).unwrap_err();
            assert!(error.0.contains("longer than"), "{expression}: {error}");
        }
    }

    #[test]
    fn work_has_bounds() {
        let start = "variable \"t\" { default = join(\"\", [for n in range(1000): format(\"%200s\", \"x\")]) }\nvariable \"l\" { default = range(1000) }\nfunction \"f\" {\n  params = [n]\n  result = n > 30 ? 1 : f(n + 1) + f(n + 1)\n}\n";
        let many = "${t}".repeat(100);
        let listed = vec!["t"; 100].join(", ");
        let expressions = [
            "length([for a in l: [for b in l: [for c in l: c]]])".to_owned(),
            "length([for a in l: t])".to_owned(),
            "length({for a in l: a => t})".to_owned(),
            "length([for a in l: \"${t}${t}\"])".to_owned(),
            "length([for a in l: 1 if length([for b in l: length([for c in l: c])]) > 1])".to_owned(),
            "length(\"%{ for a in l }%{ for b in l }%{ for c in l }x%{ endfor }%{ endfor }%{ endfor }\")".to_owned(),
            format!(
                "length(\"%{{ for a in l }}{}%{{ endfor }}\")",
                "x".repeat(10_000)
            ),
            "f(0)".to_owned(),
            "try(f(0), f(0), f(0), f(0))".to_owned(),
            format!("length(\"{many}\")"),
            format!("length([{listed}])"),
            format!("max({listed})"),
        ];
        for expression in expressions {
            let text = format!("{start}target \"t\" {{ args = {{ A = {expression} }} }}\n");
            let begun = std::time::Instant::now();
            let error = bake(&[("docker-bake.hcl", &text)], &["t"], &[]).unwrap_err();
            let is_bounded = ["makes more than", "too deeply", "none of its arguments"];
            let said = error.0.clone();
            assert!(
                is_bounded.iter().any(|part| said.contains(part)),
                "{expression}: {said}"
            );
            assert!(begun.elapsed().as_secs() < 20, "{expression}");
        }
    }

    #[test]
    fn texts_are_what_they_were_before_they_were_counted() {
        let text = r#"
variable "a" { default = "x\"y" }
variable "l" { default = ["1", "2"] }
variable "o" { default = { k = "v", q = { r = ["s"] } } }
target "t" {
  args = {
    A = "$${a} %%{ if } \n \\ \" ${a} é"
    B = "%{ for n in l ~}  ${n}, %{~ endfor }end"
    C = "%{ if true }yes ${a}%{ else }no%{ endif }"
    D = <<-E
      one ${a}
        two $${x}
    E
    F = "${o.k} ${o["q"].r[0]} ${l[1]}"
    G = join(",", [for k, v in { b = "1", c = a }: "${k}=${v}" if k != "z"])
    H = "${max([3, 5]...)}"
    I = join(",", o.q.r)
    J = a == "x" ? upper(a) : lower("${a}")
    K = "${a}"
  }
}
"#;
        // As buildx has them.
        let want = json!({
            "A": "${a} %{ if } \n \\ \" x\"y é",
            "B": "1,2,end",
            "C": "yes x\"y",
            "D": "one x\"y\n  two ${x}\n",
            "F": "v s 2",
            "G": "b=1,c=x\"y",
            "H": "5",
            "I": "s",
            "J": "x\"y",
            "K": "x\"y",
        });
        assert_eq!(printed(text, &["t"], &[])["target"]["t"]["args"], want);
    }

    #[test]
    fn variables_functions_inheritance_and_matrices() {
        let text = r#"
variable "TAG" { default = "v${MAJOR}" }
variable "MAJOR" { default = 2 }
variable "FROM_ENV" { default = "none" }
function "name" {
  params = [image]
  result = "r.example/${upper(image)}:${TAG}"
}
group "default" { targets = ["app", "tools"] }
target "_common" {
  args = { A = "1", B = "2", GONE = null }
  labels = { "org.x" = FROM_ENV }
  cache-from = ["a"]
}
target "app" {
  inherits = ["_common"]
  args = { B = "3", TRIED = try(nope.x, "fallback") }
  tags = [name("app"), equal("given", FROM_ENV) ? "extra" : "", "extra"]
  cache-from = ["b"]
  contexts = { tool = "target:tools-2-0" }
}
target "tools" {
  name = "tools-${replace(version, ".", "-")}"
  matrix = { version = ["1.0", "2.0"] }
  args = { VERSION = version }
  output = ["type=registry"]
}
"#;
        let all = printed(text, &[], &["app.args.C=4"]);
        let app = &all["target"]["app"];
        let args = json!({ "A": "1", "B": "3", "C": "4", "TRIED": "fallback" });
        assert_eq!(app["args"], args);
        assert_eq!(app["tags"], json!(["r.example/APP:v2", "extra"]));
        assert_eq!(app["labels"]["org.x"], "given");
        assert_eq!(app["cache-from"], json!(["a", "b"]));
        let tools = json!(["tools-1-0", "tools-2-0"]);
        assert_eq!(all["group"]["tools"]["targets"], tools);
        assert_eq!(
            all["target"]["tools-2-0"]["output"],
            json!(["type=registry"])
        );
        let app = printed(text, &["app"], &[]);
        assert_eq!(app["group"]["default"]["targets"], json!(["app"]));
        let linked = &app["target"]["tools-2-0"];
        assert_eq!(linked["args"]["VERSION"], "2.0");
        assert_eq!(linked.get("output"), None, "it is only a context");
    }

    #[test]
    fn overrides_replace_lists_and_add_to_maps() {
        let text = "target \"default\" {\n tags = [\"a\"]\n args = { A = 1 }\n}";
        let sets = [
            "default.tags=b",
            "*.tags=c",
            "default.args.B=2",
            "default.args.FROM_ENV",
            "d?f*t.no-cache=true",
            "*.push=true",
        ];
        let expected = json!({
            "context": ".", "dockerfile": "Dockerfile", "tags": ["b", "c"],
            "args": { "A": "1", "B": "2", "FROM_ENV": "given" },
            "no-cache": true, "output": ["type=image,push=true"],
        });
        assert_eq!(printed(text, &[], &sets)["target"]["default"], expected);
    }

    #[test]
    fn later_files_add_to_earlier_ones() {
        let first = "target \"t\" {\n args = { A = 1 }\n tags = [\"a\"]\n}";
        let compose = "services: {t: {build: {context: ./c, args: {Z: 1}}}}";
        let second = "{\"target\": {\"t\": {\"tags\": [\"b:${FROM_ENV}\"]}}, \"FROM_ENV\": 1}";
        let files = [("a.hcl", first), ("b.json", second), ("c.yaml", compose)];
        let error = bake(&files, &["t"], &[]).unwrap_err();
        assert!(error.0.contains("not a number"), "{error}");
        let second = second.replace("\"FROM_ENV\": 1", "\"FROM_ENV\": \"\"");
        let files = [("a.hcl", first), ("b.json", &second), ("c.yaml", compose)];
        let target = bake(&files, &["t"], &[]).unwrap().targets["t"].clone();
        assert_eq!(target.list("tags"), ["b:given"]);
        assert_eq!(target.text("context"), Some("c"));
        assert_eq!(target.pairs("args").len(), 2);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, says) in [
            ("target \"default\" { tags = [nope] }", "nope"),
            (
                "target \"default\" { tags = \"a\" }",
                "tags: \"a\" is not a list",
            ),
            ("target \"default\" { pull = \"x\" }", "not true or false"),
            ("target \"default\" { inherits = [\"x\"] }", "no target x"),
            (
                "target \"default\" { inherits = [\"default\"] }",
                "inherits from itself",
            ),
            (
                "target \"default\" {\n contexts = { a = \"target:default\" }\n}",
                "its own result",
            ),
            (
                "group \"default\" { targets = [\"default\"] }",
                "holds itself",
            ),
            ("target \"a\" {}", "there are a"),
            ("target \"a.b\" {}", "invalid target name"),
            ("target \"default\" { name = \"x\" }", "a matrix"),
            (
                "variable \"A\" { default = A }",
                "variable A: variable cycle not allowed for A",
            ),
            (
                "variable \"A\" { default = \"${B}\" }\nvariable \"B\" { default = A }",
                "variable B: variable cycle not allowed for A",
            ),
            (
                "variable \"A\" { default = \"${B}\" }\nvariable \"B\" { default = nope }",
                "variable B: undefined variable `nope`",
            ),
            ("target \"a\" {", "docker-bake.hcl"),
        ] {
            let error = bake(&[("docker-bake.hcl", text)], &[], &[]).unwrap_err();
            assert!(error.0.contains(says), "{text}: {error}");
        }
        let text = "target \"default\" {}";
        let error = bake(&[("b.hcl", text)], &[], &["x.tags=a"]).unwrap_err();
        assert!(error.0.contains("no target has such a name"), "{error}");
    }

    #[test]
    fn variables_are_validated() {
        let text = r#"
variable "TAG" {
  type = string
  default = ""
  validation {
    condition = TAG != ""
    error_message = "TAG is needed"
  }
  validation {
    condition = strlen(TAG) < 9 || OTHER
    error_message = "${TAG} is too long"
  }
}
variable "OTHER" { default = false }
target "t" { tags = [TAG] }
"#;
        let json = r#"{"variable": {"TAG": {"default": "", "validation": [
            {"condition": "${TAG != \"\"}", "error_message": "TAG is needed"}]}}, "target": {"t": {}}}"#;
        let long = text.replace("default = \"\"", "default = \"long-enough\"");
        for (name, text, says) in [
            (
                "b.hcl",
                text,
                "variable TAG: Validation failed; TAG is needed",
            ),
            ("b.json", json, "Validation failed; TAG is needed"),
            ("b.hcl", &long, "Validation failed; long-enough is too long"),
        ] {
            let error = bake(&[(name, text)], &["t"], &[]).unwrap_err();
            assert!(error.0.contains(says), "{error}");
        }
        let good = text.replace("default = \"\"", "default = \"v1\"");
        assert!(bake(&[("b.hcl", &good)], &["t"], &[]).is_ok());
        for (block, says) in [
            ("condition = null", "\"error_message\" is required"),
            ("condition = null\n error_message = \"\"", "not null"),
            ("conditon = true", "named \"conditon\" is not expected"),
        ] {
            let text = format!(
                "variable \"A\" {{\n validation {{\n {block}\n }}\n}}\ntarget \"t\" {{}}\n"
            );
            let error = bake(&[("b.hcl", &text)], &["t"], &[]).unwrap_err();
            assert!(error.0.contains(says), "{error}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_or_told() {
        for (text, says) in [
            (
                "variable \"A\" { defualt = 1 }",
                "variable A: Unsupported argument; An argument named \"defualt\" is not expected here.",
            ),
            (
                "function \"f\" {\n result = 1\n param = []\n}",
                "\"param\" is not expected",
            ),
        ] {
            let error = bake(&[("b.hcl", text)], &[], &[]).unwrap_err();
            assert!(error.0.contains(says), "{error}");
        }
        let source = Source {
            name: "b.hcl".to_owned(),
            text: "targt \"x\" {}\ntarget \"t\" {\n tag = [nope]\n}\n".to_owned(),
        };
        let project = read(&[source], None, &env, &|_| Ok(None)).unwrap();
        assert_eq!(
            project.warnings(),
            [
                "b.hcl: blocks 'targt' are not known, and ignored",
                "target t: 'tag' is not known, and ignored"
            ]
        );
    }

    #[test]
    fn objects_are_flags() {
        let text = "target \"default\" {\n output = [{ type = \"oci\", dest = \"a.tar\" }]\n secret = [{ id = \"s\", src = \"f\" }]\n}";
        let bake = bake(&[("b.hcl", text)], &[], &[]).unwrap();
        let target = &bake.targets["default"];
        assert_eq!(target.list("output"), ["type=oci,dest=a.tar"]);
        assert_eq!(target.list("secret"), ["id=s,src=f"]);
    }
}
