//! `USER[:GROUP]` looked up in an image's `/etc/passwd` and `/etc/group`, with the rules of
//! container runtimes: a name gives its primary and supplementary groups; a number found in
//! `passwd` gives that entry's groups, another number group 0; a group given explicitly stands
//! alone.

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
    /// Home folder; empty when unknown.
    pub home: String,
}

/// A name that the image doesn't know.
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
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

/// Looks `spec` (`user`, `uid`, `user:group`, …; empty: root) up in the texts of `/etc/passwd`
/// and `/etc/group`.
///
/// # Errors
/// When a name is in neither.
pub fn resolve_user(spec: &str, passwd: &str, group: &str) -> Result<User, NoSuchUser> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .filter_map(parse_passwd)
        .find(|entry| entry.name == user || user.parse() == Ok(entry.uid));
    let uid = match (&entry, user.parse()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(NoSuchUser::User(user.to_owned())),
    };
    let home = entry.as_ref().map_or("", |entry| entry.home).to_owned();
    if let Some(wanted) = wanted_group {
        let gid = find_group(wanted, group)?;
        return Ok(User {
            uid,
            gid,
            groups: Vec::new(),
            home,
        });
    }
    let gid = entry.as_ref().map_or(0, |entry| entry.gid);
    let groups = entry.map_or_else(Vec::new, |entry| memberships(entry.name, group));
    Ok(User {
        uid,
        gid,
        groups,
        home,
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, NoSuchUser> {
    let named = group
        .lines()
        .filter_map(parse_group)
        .find(|entry| entry.name == wanted);
    let found = named.map(|entry| entry.gid).or_else(|| wanted.parse().ok());
    found.ok_or_else(|| NoSuchUser::Group(wanted.to_owned()))
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    let groups = group.lines().filter_map(parse_group);
    groups
        .filter(|entry| entry.members.contains(&user))
        .map(|entry| entry.gid)
        .collect()
}

fn parse_passwd(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Passwd {
        name,
        uid,
        gid,
        home: fields.nth(1).unwrap_or(""),
    })
}

fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = fields.nth(1)?.parse().ok()?;
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

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nextra:x:50:app,other\nwheel:x:10:app\n";

    #[test]
    fn rules_of_container_runtimes() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        };
        let cases = [
            ("", user(0, 0, &[], "/root")),
            ("root", user(0, 0, &[], "/root")),
            ("app", user(1000, 1001, &[50, 10], "/home/app")),
            ("1000", user(1000, 1001, &[50, 10], "/home/app")),
            ("77", user(77, 0, &[], "")),
            ("app:extra", user(1000, 50, &[], "/home/app")),
            ("77:88", user(77, 88, &[], "")),
        ];
        for (spec, want) in cases {
            assert_eq!(resolve_user(spec, PASSWD, GROUP), Ok(want), "{spec}");
        }
        let nobody = NoSuchUser::User("nobody".into());
        assert_eq!(resolve_user("nobody", PASSWD, GROUP), Err(nobody));
        let group = NoSuchUser::Group("none".into());
        assert_eq!(resolve_user("app:none", PASSWD, GROUP), Err(group));
    }
}
