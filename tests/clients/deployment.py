"""A server and an agent, started from the real binaries in a directory of their own."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from process import Process, Program

TRUST_DOMAIN = "example.org"
BINARIES = Path(os.environ["STEEPLE_BIN_DIR"])
# Where tests/run.sh has put the clients: everybody can read what is there.
CLIENTS = Path(os.environ["STEEPLE_CLIENTS_DIR"])
PYTHON = os.environ["STEEPLE_CLIENTS_PYTHON"]

# How each client is run. The first word is what its process is an instance of.
COMMANDS = {
    "python": [PYTHON, CLIENTS / "python/client.py"],
    "go": [CLIENTS / "go/client"],
    "node": [shutil.which("node"), CLIENTS / "node/client.js"],
    "rust": [CLIENTS / "rust/client"],
}
# Those that could be built here.
BUILT = sorted(name for name in COMMANDS if any((CLIENTS / name).iterdir()))


def executable(client):
    """The path that the kernel has for the program that runs this client."""
    return os.path.realpath(COMMANDS[client][0])


class Deployment:
    """It lives until `close`; its agent can be stopped and started again."""

    def __init__(self, ca_ttl="24h", agent=""):
        # The path of a socket has 107 bytes at the most, whatever TMPDIR says.
        self.dir = Path(tempfile.mkdtemp(prefix="steeple.", dir="/tmp"))
        self.dir.chmod(0o755)
        self.processes = []
        self.socket = self.dir / "run/api.sock"
        self.socket.parent.mkdir(mode=0o755)
        self.admin_socket = self.dir / "server/admin/api.sock"
        self._start_server(ca_ttl)
        self._prepare_agent(agent)

    def _start_server(self, ca_ttl):
        config = self.dir / "server.toml"
        config.write_text(
            f'trust_domain = "{TRUST_DOMAIN}"\n'
            f'data_dir = "{self.dir}/server"\n'
            f'socket_path = "{self.admin_socket}"\n'
            'bind_address = "127.0.0.1"\n'
            "bind_port = 0\n"
            f'ca_ttl = "{ca_ttl}"\n'
        )
        command = [BINARIES / "steeple-server", "run", "--config", config]
        self.server = self._keep(Process(command, stream="stderr"))
        started = self.server.wait_for("Starting Server APIs")
        self.port = re.search(r"address=\S*:(\d+)", started)[1]

    def _prepare_agent(self, more):
        (self.dir / "bundle.pem").write_text(self.admin("bundle", "show"))
        token = self.admin("token", "generate", "--ttl", "600").split("Token: ")[1].split()[0]
        self.agent_id = f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}"
        (self.dir / "token").write_text(token)
        (self.dir / "agent.toml").write_text(
            f'server = "127.0.0.1:{self.port}"\n'
            f'trust_domain = "{TRUST_DOMAIN}"\n'
            f'trust_bundle = "{self.dir}/bundle.pem"\n'
            f'join_token_file = "{self.dir}/token"\n'
            f'data_dir = "{self.dir}/agent"\n'
            f'socket_path = "{self.socket}"\n'
            'sync_interval = "1s"\n'
            f'{more.replace("DIR", str(self.dir))}'
        )

    def start_agent(self):
        """Starts it for the first time, and waits until it knows what the server knows."""
        self.start_agent_again()
        self.agent.wait_for(" synced ")

    def start_agent_again(self):
        command = [BINARIES / "steeple-agent", "run", "--config", self.dir / "agent.toml"]
        self.agent = self._keep(Process(command, stream="stderr"))
        self.agent.wait_for("Starting agent APIs")

    def admin(self, *arguments):
        """What the admin command line prints."""
        command = [BINARIES / "steeple-server", *arguments]
        environment = {**os.environ, "STEEPLE_SERVER_SOCKET": str(self.admin_socket)}
        done = subprocess.run(command, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def create_entry(self, path, *selectors, federates_with=()):
        """Gives whatever has these selectors an identity; returns its SPIFFE ID and the entry's."""
        spiffe_id = f"spiffe://{TRUST_DOMAIN}{path}"
        entry_id = path.strip("/") + "-" + secrets.token_hex(4)
        options = [option for selector in selectors for option in ("--selector", selector)]
        options += [option for name in federates_with for option in ("--federates-with", name)]
        self.admin("entry", "create", "--entry-id", entry_id, "--spiffe-id", spiffe_id,
                   "--parent-id", self.agent_id, *options)
        return spiffe_id, entry_id

    def delete_entry(self, entry_id):
        self.admin("entry", "delete", "--entry-id", entry_id)

    def client(self, name, *arguments, uid=None):
        """Starts a client, as another user if it is to be one."""
        environment = {
            "PATH": os.environ["PATH"],
            "SPIFFE_ENDPOINT_SOCKET": f"unix://{self.socket}",
            "SPIRE_ADMIN_ENDPOINT_SOCKET": f"unix://{self.dir}/admin/admin.sock",
            "WORKLOAD_PROTO": str(CLIENTS / "proto/workload.proto"),
            "PYTHONPATH": str(CLIENTS / "python/packages"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        as_user = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        return self._keep(Program(
            [*COMMANDS[name], *arguments], env=environment, cwd=self.dir, **as_user
        ))

    def _keep(self, process):
        self.processes.append(process)
        return process

    def close(self):
        for process in reversed(self.processes):
            process.kill()
        shutil.rmtree(self.dir)

    def stop_agent(self, how=signal.SIGTERM):
        return self.agent.stop(how)

    def __str__(self):
        return "\n\n".join(str(process) for process in self.processes)
