//! `USER[:GROUP]` looked up in an image's `/etc/passwd` and `/etc/group`, with the rules of
//! container runtimes: a name gives its primary and supplementary groups; a number found in
//! `passwd` gives that entry's groups, another number group 0; a group given explicitly stands
//! alone, and two numbers are looked up nowhere. The primary group is always one of the supplementary
//! ones, too, so that what a group may not do isn't allowed by leaving it (CVE-2023-25173). The home
//! directory is that of the first entry with the user's number. What follows a second colon says nothing,
//! and lines may lack fields at their end.

use kiln_graph::{BadUnixId, UnixId};

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: UnixId,
    /// Group.
    pub gid: UnixId,
    /// All groups: the primary one, and more.
    pub groups: Vec<UnixId>,
    /// Home directory; empty when unknown.
    pub home: String,
}

/// Why nobody is meant by a name or number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchUser {
    /// No such user.
    #[error(
        "unable to find user {0}: no matching entries in passwd file; use a number, or create the user in a step before"
    )]
    User(String),
    /// No such group.
    #[error(
        "unable to find group {0}: no matching entries in group file; use a number, or create the group in a step before"
    )]
    Group(String),
    /// A number that is no user's or group's, given or in the image's files.
    #[error(transparent)]
    Number(#[from] BadUnixId),
}

/// A line of `/etc/passwd`; its numbers may be none.
struct Passwd<'a> {
    name: &'a str,
    uid: &'a str,
    gid: &'a str,
    home: &'a str,
}

/// A line of `/etc/group`; its number may be none.
struct Group<'a> {
    name: &'a str,
    gid: &'a str,
    members: Vec<&'a str>,
}

/// Looks `spec` (`user`, `uid`, `user:group`, …; empty: root) up in the texts of `/etc/passwd`
/// and `/etc/group`.
///
/// # Errors
/// When a name is in neither, or a number is out of range.
pub fn resolve_user(spec: &str, passwd: &str, group: &str) -> Result<User, NoSuchUser> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, rest)) => {
            let group = rest.split(':').next();
            (user, group.filter(|group| !group.is_empty()))
        }
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = UnixId::in_text(user)?;
    let entries = || passwd.lines().filter_map(parse_passwd);
    let has_uid = |entry: &Passwd<'_>, uid: UnixId| entry.uid.parse().ok() == Some(uid);
    let is_meant = |entry: &Passwd<'_>| {
        entry.name == user || number.is_some_and(|number| has_uid(entry, number))
    };
    let numbers = match (number, wanted_group) {
        (Some(uid), Some(wanted)) => UnixId::in_text(wanted)?.map(|gid| (uid, gid)),
        _ => None,
    };
    let entry = match numbers {
        Some(_) => None,
        None => entries().find(is_meant),
    };
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid.parse()?,
        (None, Some(uid)) => uid,
        (None, None) => return Err(NoSuchUser::User(user.to_owned())),
    };
    let (gid, more) = match (numbers, wanted_group, &entry) {
        (Some((_, gid)), ..) => (gid, Vec::new()),
        (None, Some(wanted), _) => (group_of(wanted, group)?, Vec::new()),
        (None, None, Some(entry)) => (entry.gid.parse()?, memberships(entry.name, group)?),
        (None, None, None) => (UnixId::ROOT, Vec::new()),
    };
    let others = more.into_iter().filter(|other| *other != gid);
    let groups = std::iter::once(gid).chain(others).collect();
    let home = entries().find(|entry| has_uid(entry, uid));
    let home = home.map_or("", |entry| entry.home).to_owned();
    Ok(User {
        uid,
        gid,
        groups,
        home,
    })
}

fn group_of(wanted: &str, group: &str) -> Result<UnixId, NoSuchUser> {
    let mut groups = group.lines().filter_map(parse_group);
    let named = groups.find(|entry| entry.name == wanted);
    match (named, UnixId::in_text(wanted)?) {
        (Some(entry), _) => Ok(entry.gid.parse()?),
        (None, Some(gid)) => Ok(gid),
        (None, None) => Err(NoSuchUser::Group(wanted.to_owned())),
    }
}

/// The number and the primary group of the user of a name, in the text of `/etc/passwd`; `None` when
/// there is none.
///
/// # Errors
/// When the numbers there are none.
pub fn find_user(name: &str, passwd: &str) -> Result<Option<(UnixId, UnixId)>, NoSuchUser> {
    let mut entries = passwd.lines().filter_map(parse_passwd);
    match entries.find(|entry| entry.name == name) {
        Some(entry) => Ok(Some((entry.uid.parse()?, entry.gid.parse()?))),
        None => Ok(None),
    }
}

/// The number of the group of a name, in the text of `/etc/group`; `None` when there is none.
///
/// # Errors
/// When the number there is none.
pub fn find_group(name: &str, group: &str) -> Result<Option<UnixId>, NoSuchUser> {
    let mut entries = group.lines().filter_map(parse_group);
    match entries.find(|entry| entry.name == name) {
        Some(entry) => Ok(Some(entry.gid.parse()?)),
        None => Ok(None),
    }
}

fn memberships(user: &str, group: &str) -> Result<Vec<UnixId>, NoSuchUser> {
    let groups = group.lines().filter_map(parse_group);
    groups
        .filter(|entry| entry.members.contains(&user))
        .map(|entry| Ok(entry.gid.parse()?))
        .collect()
}

fn parse_passwd(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    Some(Passwd {
        name,
        uid: number(fields.nth(1)),
        gid: number(fields.next()),
        home: fields.nth(1).unwrap_or(""),
    })
}

/// A number that a line lacks is 0.
fn number(field: Option<&str>) -> &str {
    field.filter(|text| !text.is_empty()).unwrap_or("0")
}

fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = number(fields.nth(1));
    let members = fields
        .next()
        .unwrap_or("")
        .split(',')
        .filter(|name| !name.is_empty());
    Some(Group {
        name,
        gid,
        members: members.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\ntoor:x:0:10::/toor:\n7:x:8:8::/eight:\n";
    const GROUP: &str =
        "root:x:0:\napp:x:1001:app\nextra:x:50:app,other,toor\nwheel:x:10:app\n60:x:61:\n";

    #[test]
    fn rules_of_container_runtimes() {
        let id = |number| UnixId::try_from(number).unwrap();
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid: id(uid),
            gid: id(gid),
            groups: groups.iter().copied().map(id).collect(),
            home: home.to_owned(),
        };
        let cases = [
            ("", user(0, 0, &[0], "/root")),
            ("root", user(0, 0, &[0], "/root")),
            (":50", user(0, 50, &[50], "/root")),
            ("toor", user(0, 10, &[10, 50], "/root")),
            ("app", user(1000, 1001, &[1001, 50, 10], "/home/app")),
            ("1000", user(1000, 1001, &[1001, 50, 10], "/home/app")),
            ("77", user(77, 0, &[0], "")),
            ("app:extra", user(1000, 50, &[50], "/home/app")),
            ("77:88", user(77, 88, &[88], "")),
            ("7", user(8, 8, &[8], "/eight")),
            ("7:50", user(7, 50, &[50], "")),
            ("app:60", user(1000, 61, &[61], "/home/app")),
            ("1000:60", user(1000, 60, &[60], "/home/app")),
            ("77:88:99", user(77, 88, &[88], "")),
            ("app:extra:x", user(1000, 50, &[50], "/home/app")),
            ("0::", user(0, 0, &[0], "/root")),
        ];
        for (spec, want) in cases {
            assert_eq!(resolve_user(spec, PASSWD, GROUP), Ok(want), "{spec}");
        }
        let nobody = NoSuchUser::User("nobody".into());
        assert_eq!(resolve_user("nobody", PASSWD, GROUP), Err(nobody));
        let group = NoSuchUser::Group("none".into());
        assert_eq!(resolve_user("app:none", PASSWD, GROUP), Err(group));
    }

    #[test]
    fn lines_may_be_short() {
        let passwd = "a:x:5\nb:x\nc\nd:x:7:8:g:/home/d\ne:x::9::/e:\n";
        let group = "g:x\nh:x:9\ni:x:10:a";
        let ids = |spec| {
            let user = resolve_user(spec, passwd, group).unwrap();
            let groups: Vec<u32> = user.groups.iter().map(|id| id.get()).collect();
            (user.uid.get(), groups, user.home)
        };
        assert_eq!(ids("a"), (5, vec![0, 10], String::new()));
        assert_eq!(ids("b"), (0, vec![0], String::new()));
        assert_eq!(ids("c"), (0, vec![0], String::new()));
        assert_eq!(ids("d:g"), (7, vec![0], "/home/d".to_owned()));
        assert_eq!(ids("d:h"), (7, vec![9], "/home/d".to_owned()));
        assert_eq!(ids("e").1, [9]);
        let pair = |uid: u32, gid: u32| {
            (
                UnixId::try_from(uid).unwrap(),
                UnixId::try_from(gid).unwrap(),
            )
        };
        assert_eq!(find_user("a", passwd), Ok(Some(pair(5, 0))));
        assert_eq!(find_group("g", group), Ok(Some(UnixId::ROOT)));
    }

    #[test]
    fn numbers_out_of_range_are_nobodys() {
        let passwd = "evil:x:4294967295:0::/:\nodd:x:7:4294967295::/:\nok:x:5:5::/:\n";
        let group = "evil:x:4294967295:ok\n";
        for spec in [
            "4294967295",
            "2147483648",
            "-1",
            "1:4294967295",
            "1:-1",
            "evil",
            "odd",
            "ok",
            "1:evil",
        ] {
            let found = resolve_user(spec, passwd, group);
            assert!(
                matches!(found, Err(NoSuchUser::Number(_))),
                "{spec}: {found:?}"
            );
        }
    }
}
