//! No program leaves an image of itself with its keys: the system's limit of core files is 0 before a key is read.

use std::fs::OpenOptions;

use super::*;

/// What the system says of a program's core files: what is, and what it could raise that to.
fn limits(pid: u32) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

#[test]
fn no_program_that_reads_a_key_leaves_a_core_file() {
    let folder = Folder::new();
    // Whoever opens it waits until somebody writes.
    let pipe = folder.file("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let any = Path::new("127.0.0.1:0");
    let mut index = command(INDEX, &[("-i", &pipe), ("-c", any), ("-s", any), ("--trusted", &folder.file("trusted"))]);
    let mut node = command(NODE, &[("-d", &folder.file("none.db")), ("-i", &pipe), ("-l", any)]);
    let mut manager = command(env!("CARGO_BIN_EXE_stmgr"), &[]);
    manager.args(["relay-ticket", "--address", "127.0.0.1:1", "--output"]).arg(folder.file("t")).arg("--idfile");
    let mut control = command(env!("CARGO_BIN_EXE_stctrl"), &[("--ticket", &pipe)]);
    let programs = [
        &mut command(RELAY, &[("--idfile", &pipe), ("--laddr", any)]),
        &mut index,
        node.arg("--trusted").arg(folder.file("trusted")),
        manager.arg(&pipe),
        control.args(["info", "friends"]),
    ];
    for program in programs {
        let mut child = program.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Opened when the program has opened it.
        let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
        let found = limits(child.id());
        writer.write_all(b"no identity").unwrap();
        drop(writer);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!child.wait().unwrap().success() && said.contains("pipe"), "{program:?}: {said}");
        assert_eq!(found, ["0", "0"], "{program:?}");
    }
}
