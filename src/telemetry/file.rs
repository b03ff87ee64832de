//! The file that the log may go to: appended to, and opened again when told. What cannot be written
//! there goes to standard error, and whoever logs never notices.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{AccessFlags, eaccess};
use tracing_subscriber::fmt::MakeWriter;

/// The mode of a file that is made here: what is in it is not for everybody.
const MODE: u32 = 0o640;

/// How many links in a row are followed, as by Linux.
const MOST_LINKS: usize = 40;

/// A log file. Clones write to the same one.
#[derive(Clone, Debug)]
pub(super) struct LogFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    lines: Mutex<Lines<File>>,
}

/// What lines are appended to.
#[derive(Debug)]
struct Lines<W> {
    file: W,
    /// How many lines did not find room there since one last did.
    spilt: u64,
    /// Whether the last one found room in part.
    is_torn: bool,
}

impl LogFile {
    /// Opens the file at `path`, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let lines = Mutex::new(Lines::new(open(path)?));
        Ok(Self(Arc::new(Shared { path: path.to_owned(), lines })))
    }

    /// Opens what is at its path now. If that fails, the file of before is written on.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let file = open(&self.0.path)?;
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // What was lost before is told in the new file's time.
        *lines = Lines { spilt: lines.spilt, ..Lines::new(file) };
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for LogFile {
    /// Takes a whole line, whatever happens to it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.add(line, &self.0.path, &mut io::stderr());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Lines<W> {
    fn new(file: W) -> Self {
        Self { file, spilt: 0, is_torn: false }
    }

    /// Writes a line to the file, or else to `spill`, which is told when that begins and ends.
    fn add(&mut self, line: &[u8], path: &Path, spill: &mut dyn Write) {
        let path = path.display();
        // Where not even standard error can be written, there is nobody to tell.
        let _told = match (self.append(line), self.spilt) {
            (Ok(()), 0) => Ok(()),
            (Ok(()), spilt) => {
                self.spilt = 0;
                writeln!(
                    spill,
                    "the log file {path} is written again; {spilt} lines are here alone"
                )
            }
            (Err(error), spilt) => {
                self.spilt += 1;
                let begins =
                    format!("the log file {path} cannot be written ({error}): lines go here");
                let told = if spilt == 0 { writeln!(spill, "{begins}") } else { Ok(()) };
                told.and_then(|()| spill.write_all(line))
            }
        };
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_torn = rest.len() < line.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Whether the file could be opened by somebody who has made this directory. Nothing is opened for
/// that, as whoever reads a pipe would take note.
pub(super) fn check(path: &Path, made: &Path) -> io::Result<()> {
    let kind = match std::fs::metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_new(path, made),
        Err(error) => return Err(error),
    };
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if kind.is_socket() {
        return Err(Errno::ENXIO.into());
    }
    Ok(eaccess(path, AccessFlags::W_OK)?)
}

/// The same where there is no file.
fn check_new(path: &Path, made: &Path) -> io::Result<()> {
    let path = &target(path)?;
    if path.as_os_str().as_bytes().ends_with(b"/") || path.file_name().is_none() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut directory = parent(path);
    // What is missing is made in what is there.
    while made.starts_with(directory) && is_missing(directory) {
        directory = parent(directory);
    }
    Ok(eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Where links lead from a path at which there is nothing.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = parent(&path).join(target),
            // It is missing, or no link.
            Err(_) => return Ok(path),
        }
    }
    Err(Errno::ELOOP.into())
}

/// Whether nothing has this name, not even a link that leads nowhere.
fn is_missing(path: &Path) -> bool {
    let found = path.symlink_metadata();
    path != Path::new(".") && found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn parent(path: &Path) -> &Path {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // A pipe that nobody reads would be waited for: it is an error, and later writes may wait.
    options.append(true).mode(MODE).custom_flags(OFlag::O_NONBLOCK.bits());
    options
}

fn open(path: &Path) -> io::Result<File> {
    let file = options().create(true).open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A disk with room for some more bytes.
    #[derive(Default)]
    struct Disk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let fitting = &bytes[..bytes.len().min(self.room)];
            self.room -= fitting.len();
            self.written.extend_from_slice(fitting);
            Ok(fitting.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_finds_no_room_goes_elsewhere_and_no_line_is_torn() {
        let mut lines = Lines::new(Disk { room: 8, ..Disk::default() });
        let mut spill = Vec::new();
        let mut add = |lines: &mut Lines<Disk>, line: &[u8]| {
            spill.clear();
            lines.add(line, Path::new("/l"), &mut spill);
            String::from_utf8(spill.clone()).unwrap()
        };
        assert_eq!(add(&mut lines, b"first\n"), "");
        let said = add(&mut lines, b"second\n");
        assert!(
            said.starts_with("the log file /l cannot be written (") && said.ends_with("second\n")
        );
        assert_eq!(add(&mut lines, b"third\n"), "third\n");
        lines.file.room = 100;
        let said = "the log file /l is written again; 2 lines are here alone\n";
        assert_eq!(add(&mut lines, b"fourth\n"), said);
        assert_eq!(add(&mut lines, b"fifth\n"), "");
        assert_eq!(lines.file.written, b"first\nse\nfourth\nfifth\n");
    }

    #[test]
    fn a_file_is_appended_to_and_opened_again_under_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let [path, old] = ["log", "old"].map(|name| directory.path().join(name));
        std::fs::write(&path, "before\n").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        log.write_all(b"two\n").unwrap();
        log.reopen().unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "before\none\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn a_name_that_leads_nowhere_any_more_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("logs");
        std::fs::create_dir(&inner).unwrap();
        let mut log = LogFile::open(&inner.join("log")).unwrap();
        let away = directory.path().join("away");
        std::fs::rename(&inner, &away).unwrap();
        log.reopen().unwrap_err();
        log.write_all(b"one\n").unwrap();
        assert_eq!(std::fs::read_to_string(away.join("log")).unwrap(), "one\n");
    }

    #[test]
    fn what_is_no_file_is_an_error_and_waited_for_by_nobody() {
        let directory = tempfile::tempdir().unwrap();
        LogFile::open(directory.path()).unwrap_err();
        LogFile::open(&directory.path().join("no/log")).unwrap_err();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        LogFile::open(&pipe).unwrap_err();
    }

    #[test]
    fn whether_a_file_could_be_opened_is_found_out_and_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::write(at("log"), "before\n").unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(at("sealed")).unwrap();
        std::fs::set_permissions(at("sealed"), Permissions::from_mode(0o500)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (link, target) in
            [("good", "new"), ("astray", "missing/log"), ("loop", "loop"), ("twice", "astray")]
        {
            symlink(target, at(link)).unwrap();
        }
        for (path, is_good) in [
            ("log", true),
            ("new", true),
            ("made/log", true),
            ("made/inner/log", true),
            ("made/inner/other/log", false),
            ("missing/log", false),
            ("log/log", false),
            // Whether somebody reads there cannot be found out without being noticed.
            ("pipe", true),
            ("socket", false),
            ("good", true),
            ("astray", false),
            ("twice", false),
            ("loop", false),
            ("new/", false),
            ("", false),
        ] {
            let checked = check(&at(path), &at("made/inner"));
            assert_eq!(checked.is_ok(), is_good, "{path}: {checked:?}");
        }
        // What is to be made cannot be made everywhere.
        for (path, made) in
            [("astray/log", "astray"), ("log/made/log", "log/made"), ("twice/in/log", "twice/in")]
        {
            let checked = check(&at(path), &at(made));
            assert!(checked.is_err(), "{path}");
        }
        for path in ["sealed/log", "sealed/made/log", "sealed/made/inner/log"] {
            let checked = check(&at(path), &at("sealed/made/inner"));
            assert!(checked.is_err() || nix::unistd::geteuid().is_root(), "{path}");
        }
        let mut left: Vec<_> =
            std::fs::read_dir(at("")).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["astray", "good", "log", "loop", "pipe", "sealed", "socket", "twice"]);
        assert_eq!(std::fs::read_to_string(at("log")).unwrap(), "before\n");
    }

    #[tokio::test]
    async fn whoever_reads_a_pipe_is_not_told_of_a_check() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&pipe).unwrap();
        check(&pipe, directory.path()).unwrap();
        let patience = std::time::Duration::from_millis(50);
        tokio::time::timeout(patience, reader.readable()).await.unwrap_err();
        drop(LogFile::open(&pipe).unwrap());
        reader.readable().await.unwrap();
    }
}
