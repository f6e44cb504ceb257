# SPDX-License-Identifier: Apache-2.0
"""The dependency provider's steps, run by a tiny project that asks for Kokkos.

upstream_test.py [-v] CMAKE SOURCE_DIR GENERATOR. The upstream step meets a server on the loopback device: with a good
archive, a falsified one, none, one that never answers, and no server at all. No other host is asked.
"""

import contextlib
import hashlib
import http.server
import io
import pathlib
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest

CMAKE, SOURCE_DIR, GENERATOR = sys.argv[-3:]

ASKING_PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(asking LANGUAGES NONE)
find_package(Kokkos 4.6...<6 REQUIRED)
message(STATUS "got ${Kokkos_VERSION} ${STANDS_IN}")
"""

# Builds in an instant and installs a package of the right name; Kokkos_ENABLE_SERIAL shows that options arrive.
STAND_IN = """
cmake_minimum_required(VERSION 3.25)
project(Kokkos VERSION 5.2.2 LANGUAGES NONE)
include(CMakePackageConfigHelpers)
file(CONFIGURE OUTPUT KokkosConfig.cmake CONTENT "set(STANDS_IN serial-@Kokkos_ENABLE_SERIAL@)\\n" @ONLY)
write_basic_package_version_file(KokkosConfigVersion.cmake COMPATIBILITY AnyNewerVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/KokkosConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/KokkosConfigVersion.cmake
        DESTINATION lib/cmake/Kokkos)
"""


def stand_in_archive():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("kokkos-5.2.2/CMakeLists.txt")
        member.size = len(STAND_IN)
        archive.addfile(member, io.BytesIO(STAND_IN.encode()))
    return packed.getvalue()


@contextlib.contextmanager
def serving(files):
    """A server of these files {path: bytes}; yields its URL and the list of paths asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Upstream(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "CMakeLists.txt").write_text(ASKING_PROJECT)
        self.archive = stand_in_archive()
        self.sha256 = hashlib.sha256(self.archive).hexdigest()

    def configure(self, url, steps="upstream", sha256=None, more=()):
        """Configures the asking project from nothing but what .deps holds; returns (status, output, seconds)."""
        table = self.folder / "upstream.cmake"
        table.write_text(
            f"set(upstream_Kokkos_url {url}/kokkos-5.2.2.tar.gz)\n"
            f"set(upstream_Kokkos_sha256 {sha256 or self.sha256})\n"
            "set(upstream_Kokkos_options -DKokkos_ENABLE_SERIAL=ON)\n"
        )
        start = time.monotonic()
        done = subprocess.run(
            [CMAKE, "-S", self.folder, "-B", self.folder / "build", "-G", GENERATOR, "--fresh"]
            + ["-D", f"CMAKE_PROJECT_TOP_LEVEL_INCLUDES={SOURCE_DIR}/cmake/GruDependencies.cmake"]
            + ["-D", f"GRU_DEPS_FROM={steps}", "-D", f"GRU_DEPS_UPSTREAM={table}", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, time.monotonic() - start

    def assert_fails_with_one_line(self, outcome, *words):
        status, output, _ = outcome
        self.assertNotEqual(status, 0, output)
        self.assertEqual(output.count("CMake Error"), 1, output)
        lines = [line for line in output.splitlines() if "Kokkos is missing" in line]
        self.assertEqual(len(lines), 1, output)
        for word in words + ("apt ", "dnf ", "brew ", "vcpkg "):
            self.assertIn(word, lines[0])

    def test_a_good_archive_is_built_once(self):
        with serving({"/kokkos-5.2.2.tar.gz": self.archive}) as (url, asked):
            for _ in range(2):
                status, output, _ = self.configure(url)
                self.assertEqual(status, 0, output)
                self.assertIn("got 5.2.2 serial-ON", output)
            self.assertEqual(asked, ["/kokkos-5.2.2.tar.gz"])

    def test_a_falsified_archive_is_thrown_away(self):
        with serving({"/kokkos-5.2.2.tar.gz": self.archive + b"x"}) as (url, _):
            self.assert_fails_with_one_line(self.configure(url), "SHA-256", self.sha256)
        self.assertEqual(list(self.folder.glob(".deps/upstream/*")), [])

    def test_a_missing_archive_is_said(self):
        with serving({}) as (url, _):
            self.assert_fails_with_one_line(self.configure(url), url, "HTTP")

    def test_a_refused_connection_is_given_up_at_once(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))  # bound, but nobody listens
            outcome = self.configure(f"http://127.0.0.1:{free.getsockname()[1]}")
        self.assert_fails_with_one_line(outcome, "upstream: http://127.0.0.1")
        self.assertLess(outcome[2], 10)

    def test_a_silent_server_is_given_up_within_seconds(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()  # connects, but never answers
            outcome = self.configure(f"http://127.0.0.1:{silent.getsockname()[1]}")
        self.assert_fails_with_one_line(outcome, "imeout")
        self.assertLess(outcome[2], 25)

    def test_the_next_step_serves_when_one_fails(self):
        with serving({}) as (url, _):
            prefix = self.folder / ".deps/debian/usr/lib/cmake/Kokkos"  # as an earlier configuration left it
            prefix.mkdir(parents=True)
            (prefix / "KokkosConfig.cmake").write_text("set(STANDS_IN kept)\n")
            (prefix / "KokkosConfigVersion.cmake").write_text(
                "set(PACKAGE_VERSION 5.0.0)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n"
            )
            status, output, _ = self.configure(url, steps="upstream;debian")
            self.assertEqual(status, 0, output)
            self.assertIn("got 5.0.0 kept", output)
            self.assertIn("run while it stays there", output)

    def leave(self, prefix, devices):
        """A Kokkos of these devices as an installation would leave it."""
        package = self.folder / prefix / "lib/cmake/Kokkos"
        package.mkdir(parents=True)
        (package / "KokkosConfig.cmake").write_text(f"set(STANDS_IN {prefix})\nset(Kokkos_DEVICES {devices})\n")
        (package / "KokkosConfigVersion.cmake").write_text(
            "set(PACKAGE_VERSION 5.0.0)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n"
        )

    def configure_named(self, prefix):
        """Kokkos must have Cuda and is named in Kokkos_ROOT; another one without Cuda is installed."""
        return self.configure(
            "http://127.0.0.1:9",
            steps="installed",
            more=[
                "-D",
                "GRU_DEPS_KOKKOS_OPTIONS=-DKokkos_ENABLE_CUDA=ON",
                "-D",
                f"Kokkos_ROOT={self.folder / prefix}",
                "-D",
                f"CMAKE_PREFIX_PATH={self.folder / 'plain'}",
            ],
        )

    def test_a_named_kokkos_is_taken_from_there_alone(self):
        self.leave("plain", "OPENMP;SERIAL")
        self.leave("device", "OPENMP;CUDA")
        status, output, _ = self.configure_named("device")
        self.assertEqual(status, 0, output)
        self.assertIn("got 5.0.0 device", output)
        for prefix, words in (("mistyped", "holds no Kokkos that fits"), ("plain", "was built for OPENMP;SERIAL")):
            status, output, _ = self.configure_named(prefix)
            self.assertNotEqual(status, 0, output)
            self.assertIn(words, output)
            self.assertIn(f"Kokkos_ROOT={self.folder / prefix}", output)
            self.assertEqual(output.count("CMake Error"), 1, output)

    def test_an_unknown_step_is_refused(self):
        status, output, _ = self.configure("http://127.0.0.1:9", steps="elsewhere")
        self.assertNotEqual(status, 0)
        self.assertIn("it takes installed, upstream and debian", output)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:-3])
