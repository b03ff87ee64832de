//! Where the sockets are: one for workloads, and perhaps one for administrators, well away from it.

use std::path::{Component, Path, PathBuf};

use steeple::config::ConfigError;
use steeple::id::{SpiffeId, TrustDomain};

use super::{AdminConfig, home, invalid};

/// The longest path of a Unix socket that the kernel takes, without the zero at its end.
const MAX_SOCKET_PATH: usize = 107;

/// The workload socket.
pub(super) fn workload(path: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let path = path.unwrap_or_else(home::default_socket_path);
    check("socket_path", &path, "an absolute path (--socket)")?;
    Ok(path)
}

/// The admin socket, if there is to be one, and who may ask for others there.
pub(super) fn admin(
    path: Option<PathBuf>,
    delegates: Option<&[String]>,
    (workload, own): (Option<&Path>, &TrustDomain),
) -> Result<Option<AdminConfig>, ConfigError> {
    let delegates = delegates.unwrap_or_default();
    if path.is_none() && workload.is_none() {
        let must_be = "false unless there is an admin_socket_path, or nothing would be served";
        return Err(invalid("disable_workload_api", "true", must_be));
    }
    let Some(path) = path else {
        let Some(first) = delegates.first() else { return Ok(None) };
        let must_be = "left out without admin_socket_path, which is where delegates connect";
        return Err(invalid("authorized_delegates", format!("{first:?}"), must_be));
    };
    check("admin_socket_path", &path, "an absolute path")?;
    let public = workload.and_then(Path::parent).map(resolved);
    if public.is_some_and(|public| resolved(&path).starts_with(public)) {
        let must_be = "outside the directory of socket_path, which everybody may enter";
        return Err(invalid("admin_socket_path", path.display(), must_be));
    }
    let delegates = delegates.iter().map(|id| delegate(id, own)).collect::<Result<_, _>>()?;
    Ok(Some(AdminConfig { socket_path: path, delegates }))
}

fn delegate(id: &str, own: &TrustDomain) -> Result<SpiffeId, ConfigError> {
    let must_be = "SPIFFE IDs of workloads of the agent's trust domain";
    let read = id.parse::<SpiffeId>();
    let read = read
        .map_err(|error| invalid("authorized_delegates", format!("{id:?} ({error})"), must_be))?;
    if read.trust_domain() != own {
        return Err(invalid("authorized_delegates", format!("{id:?}"), must_be));
    }
    Ok(read)
}

fn check(key: &'static str, path: &Path, must_be: &'static str) -> Result<(), ConfigError> {
    if !path.is_absolute() {
        return Err(invalid(key, path.display(), must_be));
    }
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(invalid(key, path.display(), "at most 107 bytes long, as the kernel wants it"));
    }
    Ok(())
}

/// The same place, as far as it exists without symbolic links.
fn resolved(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    });
    let mut plain = PathBuf::new();
    for component in existing.unwrap_or_else(|| path.to_owned()).components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                plain.push(component);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_place(workload: &str, admin_path: &str, is_fine: bool) {
        let own = "td".parse().unwrap();
        let found = admin(Some(admin_path.into()), None, (Some(Path::new(workload)), &own));
        assert_eq!(found.is_ok(), is_fine, "{found:?}");
    }

    #[test]
    fn the_admin_socket_is_not_where_everybody_may_go() {
        check_place("/run/a/api.sock", "/run/b/admin.sock", true);
        check_place("/run/a/api.sock", "/run/ab/admin.sock", true);
        check_place("/run/a/api.sock", "/run/admin.sock", true);
        check_place("/run/a/api.sock", "/run/a/admin.sock", false);
        check_place("/run/a/api.sock", "/run/a/b/c/admin.sock", false);
        check_place("/run/a/api.sock", "/run/b/../a/admin.sock", false);
        check_place("/run/a/../b/api.sock", "/run/b/admin.sock", false);
        check_place("/run/a/api.sock", "run/b/admin.sock", false);
        check_place("/run/a/api.sock", &format!("/{}", "b".repeat(107)), false);
    }

    #[test]
    fn who_does_without_the_workload_api_needs_the_admin_socket() {
        let own = "td".parse().unwrap();
        let error = admin(None, None, (None, &own)).unwrap_err().to_string();
        assert!(error.contains("`disable_workload_api` is true"), "{error}");
        let alone = admin(Some("/run/a/admin.sock".into()), None, (None, &own)).unwrap().unwrap();
        assert_eq!(alone.socket_path, Path::new("/run/a/admin.sock"));
    }

    #[test]
    fn a_link_hides_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let public = directory.path().join("public");
        std::fs::create_dir(&public).unwrap();
        std::os::unix::fs::symlink(&public, directory.path().join("link")).unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        check_place(&at("public/api.sock"), &at("link/admin.sock"), false);
        check_place(&at("link/api.sock"), &at("public/new/admin.sock"), false);
        check_place(&at("public/api.sock"), &at("private/admin.sock"), true);
    }

    #[test]
    fn delegates_are_of_the_own_trust_domain_and_need_a_socket() {
        let own = "td".parse().unwrap();
        let of = |path: Option<&str>, id: &str| {
            let workload = Some(Path::new("/run/a/api.sock"));
            admin(path.map(PathBuf::from), Some(&[id.to_owned()]), (workload, &own))
        };
        let socket = Some("/run/b/admin.sock");
        let delegates = of(socket, "spiffe://td/cni").unwrap().unwrap().delegates;
        assert_eq!(delegates, ["spiffe://td/cni".parse().unwrap()].into());
        for (path, id, expected) in [
            (socket, "spiffe://other/cni", "trust domain"),
            (socket, "cni", "\"cni\""),
            (None, "spiffe://td/cni", "admin_socket_path"),
        ] {
            let error = of(path, id).unwrap_err().to_string();
            assert!(error.contains("authorized_delegates") && error.contains(expected), "{error}");
        }
    }
}
