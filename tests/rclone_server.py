"""rclone's S3 server: checks signatures for real, keeps its objects as files, survives being killed."""

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

RCLONE = Path(sys.executable).with_name("rclone")


class RcloneServer:
    """A server of the buckets that are folders of `folder`, at the same address whenever it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.secret = "test-access-key", secrets.token_hex(20)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{self._address}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a process uses it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
        }

    def start(self) -> None:
        """Return when it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["--auth-key", f"{self.key},{self.secret}", "--dir-cache-time=1s", "--config", os.devnull]
        with self.folder.with_name(f"{self.folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [RCLONE, "serve", "s3", "--addr", self._address, *options, self.folder], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while not self._listens():
            assert self._process.poll() is None, f"rclone ended, see {self.folder}.log"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def kill(self) -> None:
        """End it in the middle of whatever it does, as a lost machine does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        host, _, port = self._address.partition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True
