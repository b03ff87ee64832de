//! Where processes of real engines, and of workloads that lie, are found.

use super::*;

const A: &str = "6469646e742065787065637420616e796f6e6520746f20726561642074686973";
const B: &str = "41e4ab61d2860b0e1467de0da0a9c6068012761febec402dc04a5a94f32ea867";
const POD: &str = "2c48913c-b29f-11e7-9350-020968147796";
const POD_: &str = "2c48913c_b29f_11e7_9350_020968147796";
const OTHER_POD: &str = "11111111-b29f-11e7-9350-020968147796";

fn fill(text: &str) -> String {
    let text = text.replace("A64", A).replace("B64", B);
    text.replace("POD_", POD_).replace("POD2", OTHER_POD).replace("POD1", POD)
}

/// Containers with their pods, the outermost first.
type Found = Vec<(String, Option<String>)>;

fn summary(candidates: &[Candidate]) -> Found {
    let pod = |candidate: &Candidate| candidate.pod.as_ref().map(ToString::to_string);
    candidates.iter().map(|found| (found.container.to_string(), pod(found))).collect()
}

#[track_caller]
fn check(cgroup: &str, expected: &[(&str, Option<&str>)]) {
    let content = fill(cgroup);
    let lines = cgroup::parse(content.as_bytes()).unwrap();
    let found = of_cgroups(&lines).map(|found| summary(&found));
    let expected = expected.iter().map(|(id, pod)| ((*id).to_owned(), pod.map(ToOwned::to_owned)));
    assert_eq!(found, Ok(expected.collect()), "{cgroup}");
}

#[track_caller]
fn check_conflict(cgroup: &str, expected: &str) {
    let content = fill(cgroup);
    let lines = cgroup::parse(content.as_bytes()).unwrap();
    let error = of_cgroups(&lines).unwrap_err();
    assert_eq!(error.to_string(), fill(expected), "{cgroup}");
}

#[test]
fn a_container_of_docker_is_found_in_every_layout() {
    // v1, cgroupfs driver.
    check(
        "9:memory:/docker/A64\n2:cpu,cpuacct:/docker/A64\n1:name=systemd:/docker/A64\n",
        &[(A, None)],
    );
    // v1, systemd driver.
    check("9:memory:/system.slice/docker-A64.scope\n", &[(A, None)]);
    // v2, both drivers.
    check("0::/docker/A64\n", &[(A, None)]);
    check("0::/system.slice/docker-A64.scope\n", &[(A, None)]);
    // Hybrid: the unified hierarchy stays at the root, or with the engine.
    check("4:pids:/docker/A64\n1:name=systemd:/docker/A64\n0::/\n", &[(A, None)]);
    check("4:pids:/docker/A64\n0::/system.slice/containerd.service\n", &[(A, None)]);
    check("0::/system.slice/containerd.service\n4:pids:/docker/A64\n", &[(A, None)]);
    // The agent is in another cgroup namespace.
    check("0::/../docker-A64.scope\n", &[(A, None)]);
    check("0::/../../system.slice/docker-A64.scope/init.scope\n", &[(A, None)]);
    // A parent of the operator's choosing.
    check("0::/batch.slice/docker-A64.scope\n", &[(A, None)]);
}

#[test]
fn a_process_outside_of_containers_is_in_none() {
    check("", &[]);
    check("0::/\n", &[]);
    check("0::/user.slice/user-1000.slice/session-1.scope\n", &[]);
    check("4:memory:/system.slice/ssh.service\n0::/system.slice/ssh.service\n", &[]);
}

#[test]
fn a_container_of_kubernetes_is_found_with_its_pod() {
    check(
        "11:hugetlb:/kubepods/burstable/podPOD1/A64\n1:cpu:/kubepods/burstable/podPOD1/A64\n",
        &[(A, Some(POD))],
    );
    check(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-A64.scope\n",
        &[(A, Some(POD))],
    );
    check("0::/../../kubepods-besteffort-podPOD_.slice:cri-containerd:A64\n", &[(A, Some(POD))]);
}

#[test]
fn hierarchies_that_disagree_are_an_error() {
    let both = "the process's cgroups name both container A64 and container B64";
    check_conflict("2:cpu:/docker/A64\n1:memory:/docker/B64\n", both);
    check_conflict("2:cpu:/kubepods/podPOD1/A64\n1:memory:/kubepods/podPOD1/B64\n", both);
    check_conflict(
        "2:cpu:/kubepods/podPOD1/A64\n1:memory:/kubepods/podPOD2/A64\n",
        "the process's cgroups name both pod POD1 and pod POD2",
    );
    // One of them goes less deep: no disagreement.
    check("2:cpu:/docker/A64\n1:memory:/docker/A64/docker/B64\n", &[(A, None), (B, None)]);
    check("2:cpu:/docker/A64\n1:memory:/docker/A64/system.slice/x.service\n", &[(A, None)]);
}

#[test]
fn a_hierarchy_that_speaks_of_pods_beats_one_that_does_not() {
    check("2:cpu:/docker/A64\n1:memory:/kubepods/podPOD1/B64\n", &[(B, Some(POD))]);
    check("2:cpu:/kubepods/podPOD1/B64\n1:memory:/docker/A64\n", &[(B, Some(POD))]);
    let nested = "2:cpu:/docker/A64\n1:memory:/docker/A64/kubepods/podPOD1/B64\n";
    check(nested, &[(A, None), (B, Some(POD))]);
}

#[test]
fn what_a_container_makes_below_itself_comes_after_it_and_is_bounded() {
    check("0::/docker/A64/docker-B64.scope\n", &[(A, None), (B, None)]);
    check("0::/docker/A64/deep/A64/A64\n", &[(A, None)]);
    let many: String = (0..1000).map(|index| format!("/{index:064x}")).collect();
    let content = format!("0::/docker/{A}{many}\n");
    let found = of_cgroups(&cgroup::parse(content.as_bytes()).unwrap()).unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(found.first().unwrap().container.as_str(), A);
}

#[test]
fn the_cgroups_that_bear_the_name_are_kept_to_be_compared() {
    let content = fill("0::/x/docker-A64.scope/init.scope\n7:pids:/docker/A64/B64\n1:cpu:/\n");
    let found = of_cgroups(&cgroup::parse(content.as_bytes()).unwrap()).unwrap();
    let cgroups = |index: usize| {
        let found: &Candidate = &found[index];
        found
            .cgroups
            .iter()
            .map(|(hierarchy, path)| (*hierarchy, String::from_utf8(path.clone()).unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(cgroups(0), [(0, fill("/x/docker-A64.scope")), (7, fill("/docker/A64"))]);
    assert_eq!(cgroups(1), [(7, fill("/docker/A64/B64"))]);
}

#[test]
fn mounts_give_hints_without_cgroups_to_compare() {
    let content = fill("30 25 0:26 /docker/A64 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
    let found = of_mounts(content.as_bytes()).unwrap();
    assert_eq!(summary(&found), [(A.to_owned(), None)]);
    assert!(found[0].cgroups.is_empty());
    let root = "30 25 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
    assert_eq!(of_mounts(root.as_bytes()), Ok(Vec::new()));
    assert!(matches!(of_mounts(b"nonsense\n"), Err(LocateError::Mountinfo(_))));
}

#[test]
fn the_cgroup_file_says_nothing_only_if_every_line_is_at_the_root() {
    for (content, expected) in
        [("0::/\n", true), ("1:cpu:/\n0::/\n", true), ("1:cpu:/x\n0::/\n", false), ("", true)]
    {
        assert_eq!(is_hidden(&cgroup::parse(content.as_bytes()).unwrap()), expected, "{content:?}");
    }
}
