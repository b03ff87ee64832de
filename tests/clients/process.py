"""A child process whose lines can be waited for."""

import json
import subprocess
import threading
import time

# Longer than anything takes on a machine that is busy; what waits is told at once of what happens.
PATIENCE = 180


class Process:
    """A process, what it has printed, and a place in that up to which it has been read."""

    def __init__(self, arguments, stream="stdout", **options):
        self.arguments = arguments
        self.lines = []
        self.read = 0
        self._changed = threading.Condition()
        self._ended = False
        self.child = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            text=True,
            **{"stdout": subprocess.DEVNULL, "stderr": None, stream: subprocess.PIPE, **options},
        )
        pipe = getattr(self.child, stream)
        self._reader = threading.Thread(target=self._collect, args=[pipe], daemon=True)
        self._reader.start()

    def _collect(self, pipe):
        for line in pipe:
            with self._changed:
                self.lines.append((time.time(), line.rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def next(self, what, patience=PATIENCE):
        """The next line, and when it came. `what` is said if none comes."""
        deadline = time.monotonic() + patience
        with self._changed:
            while self.read == len(self.lines):
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "it has ended" if self._ended else f"not within {patience} s"
                    raise AssertionError(f"{what} did not come, {why}\n{self}")
                self._changed.wait(left)
            self.read += 1
            return self.lines[self.read - 1]

    def wait_for(self, text, patience=PATIENCE):
        """The next line that has `text` in it."""
        while True:
            _, line = self.next(f"{text!r}", patience)
            if text in line:
                return line

    def stop(self, signal, patience=PATIENCE):
        """Sends a signal and returns the exit status, and how long it took to end."""
        started = time.monotonic()
        self.child.send_signal(signal)
        return self.join(patience), time.monotonic() - started

    def join(self, patience=PATIENCE):
        status = self.child.wait(patience)
        self._reader.join(patience)
        return status

    def kill(self):
        """At the end of a test, whatever came of it."""
        if self.child.poll() is None:
            self.child.kill()
        self.join()
        self.child.stdin.close()

    def __str__(self):
        lines = [f"{at:.3f} {line[:400]}" for at, line in self.lines[-60:]]
        return "\n".join([" ".join(map(str, self.arguments)), *lines])


class Program(Process):
    """One of the clients: what it prints are events, in JSON."""

    def next_event(self, what="an event", patience=PATIENCE):
        at, line = self.next(what, patience)
        return Event(at, json.loads(line))

    def event(self, name, patience=PATIENCE, **expected):
        """The next event of this name with these fields; what comes before it is passed over."""
        while True:
            event = self.next_event(f"{name} {expected or ''}", patience)
            if event.name == name and all(event[key] == expected[key] for key in expected):
                return event

    def both(self, *names):
        """The next event of each name, in whatever order they come."""
        found = {}
        while len(found) < len(names):
            event = self.next_event(f"one of {names}")
            assert event.name in names, f"{event}\n{self}"
            found[event.name] = event
        return [found[name] for name in names]

    def events(self):
        """All events so far."""
        return [Event(at, json.loads(line)) for at, line in self.lines]

    def rest(self):
        """Says that there is nothing more to do, and returns all events when it has ended."""
        self.child.stdin.close()
        status = self.join()
        assert status == 0, f"ended with {status}\n{self}"
        events = self.events()
        assert events[-1].name == "closed", str(self)
        return events

    def tell(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()


class Event(dict):
    """What a client has said, and when."""

    def __init__(self, at, fields):
        super().__init__(fields)
        self.at = at
        self.name = fields["event"]
