"""A tour of docker-py (package `docker` of PyPI) over its whole surface: every test method is one stop.

Each result is one line of JSON in the shape of `go tool test2json`. Arguments choose tests whose names contain one of
them. The daemon is that of DOCKER_HOST; `busybox:latest` is there, and a registry at REGISTRY (host:port) if that is set.
"""

import io
import json
import os
import socket
import struct
import sys
import tarfile
import threading
import time
import unittest

import docker
from docker import errors, types
from docker.utils.socket import frames_iter

IMAGE = "busybox:latest"
LIMIT = 60


def until(condition, what):
    """Waits for a condition: its first true answer."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {LIMIT} s: {what}")


def tar_of(files):
    """A tar of names and their bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Stop(unittest.TestCase):
    """A test with clients of its own, after which nothing that it made is left."""

    def setUp(self):
        self.client = docker.from_env(timeout=LIMIT)
        self.api = self.client.api
        self.addCleanup(self.client.close)
        before = self.inventory()
        self.addCleanup(self.remove_what_is_new, before)

    def inventory(self):
        return {
            "containers": {each["Id"] for each in self.api.containers(all=True)},
            "networks": {each["Id"] for each in self.api.networks()},
            "volumes": {each["Name"] for each in self.api.volumes()["Volumes"] or []},
            "images": {tag for each in self.api.images() for tag in each["RepoTags"] or [each["Id"]]},
        }

    def remove_what_is_new(self, before):
        now = self.inventory()
        remove = {
            "containers": lambda name: self.api.remove_container(name, force=True, v=True),
            "networks": self.api.remove_network,
            "volumes": lambda name: self.api.remove_volume(name, force=True),
            "images": lambda name: self.api.remove_image(name, force=True),
        }
        for kind, removed in remove.items():
            for name in now[kind] - before[kind]:
                try:
                    removed(name)
                except errors.NotFound:
                    pass

    def running(self, command="sleep 300", **options):
        return self.client.containers.run(IMAGE, command, detach=True, stop_signal="SIGKILL", **options)


class Client(Stop):
    def test_ping(self):
        self.assertTrue(self.client.ping())

    def test_version(self):
        version = self.client.version()
        self.assertEqual(version["Os"], "linux")
        self.assertIn("ApiVersion", version)
        self.assertIn("MinAPIVersion", version)

    def test_version_is_negotiated(self):
        negotiated = docker.from_env(version="auto")
        self.addCleanup(negotiated.close)
        self.assertEqual(negotiated.api._version, self.api._version)

    def test_info(self):
        info = self.client.info()
        for key in ("Containers", "Images", "Driver", "ServerVersion", "OperatingSystem", "NCPU", "MemTotal"):
            self.assertIn(key, info)

    def test_df(self):
        usage = self.client.df()
        for key in ("LayersSize", "Images", "Containers", "Volumes"):
            self.assertIn(key, usage)

    def test_events(self):
        since = int(time.time())
        container = self.running()
        container.remove(force=True)
        events = self.client.events(
            since=since, until=int(time.time()) + 1, decode=True, filters={"container": container.id}
        )
        actions = [event["Action"] for event in events]
        self.assertEqual(actions[:2], ["create", "start"])
        self.assertIn("destroy", actions)

    def test_events_that_are_followed(self):
        stream = self.client.events(decode=True, filters={"type": "container"})
        container = self.client.containers.create(IMAGE, "true")
        event = next(stream)
        stream.close()
        self.assertEqual((event["Action"], event["Actor"]["ID"]), ("create", container.id))

    def test_login_to_nobody_fails(self):
        with self.assertRaises(errors.APIError):
            self.client.login(username="a", password="b", registry="127.0.0.1:1")


class Images(Stop):
    def test_list(self):
        self.assertIn(IMAGE, [tag for image in self.client.images.list() for tag in image.tags])

    def test_list_by_name(self):
        self.assertEqual([image.tags for image in self.client.images.list(name=IMAGE)], [[IMAGE]])

    def test_list_by_filter(self):
        self.assertEqual(self.client.images.list(filters={"label": "not=there"}), [])

    def test_get(self):
        image = self.client.images.get(IMAGE)
        self.assertTrue(image.id.startswith("sha256:"))
        self.assertTrue(image.short_id)
        self.assertEqual(image.attrs["Os"], "linux")

    def test_get_by_short_id(self):
        image = self.client.images.get(IMAGE)
        self.assertEqual(self.client.images.get(image.short_id).id, image.id)

    def test_get_what_is_not_there(self):
        with self.assertRaises(errors.ImageNotFound):
            self.client.images.get("not/there")

    def test_history(self):
        self.assertGreaterEqual(len(self.client.images.get(IMAGE).history()), 1)

    def test_tag_and_remove(self):
        image = self.client.images.get(IMAGE)
        self.assertTrue(image.tag("tour/tagged", "one"))
        image.reload()
        self.assertIn("tour/tagged:one", image.tags)
        self.client.images.remove("tour/tagged:one")
        image.reload()
        self.assertNotIn("tour/tagged:one", image.tags)

    def test_save_and_load(self):
        image = self.client.images.get(IMAGE)
        image.tag("tour/saved", "one")
        archive = b"".join(self.client.images.get("tour/saved:one").save(named="tour/saved:one"))
        self.client.images.remove("tour/saved:one")
        self.assertIn("tour/saved:one", self.client.images.load(archive)[0].tags)

    def test_save_without_a_name(self):
        archive = b"".join(self.client.images.get(IMAGE).save())
        manifest = json.load(tarfile.open(fileobj=io.BytesIO(archive)).extractfile("manifest.json"))
        self.assertFalse(manifest[0]["RepoTags"])

    def test_load_of_what_is_no_image(self):
        with self.assertRaises((errors.ImageLoadError, errors.APIError)):
            self.client.images.load(b"no archive")

    def test_import(self):
        answer = self.api.import_image_from_data(tar_of({"file": b"x"}), repository="tour/imported", tag="one")
        self.assertIn("sha256:", answer)
        self.assertEqual(len(self.api.inspect_image("tour/imported:one")["RootFS"]["Layers"]), 1)

    def test_prune(self):
        self.assertIn("SpaceReclaimed", self.client.images.prune(filters={"dangling": True}))

    def test_pull_from_nobody(self):
        with self.assertRaises(errors.APIError):
            self.client.images.pull("127.0.0.1:1/not/there", tag="one")

    @unittest.skipUnless("REGISTRY" in os.environ, "no registry")
    def test_push_and_pull(self):
        name = f"{os.environ['REGISTRY']}/tour/pushed"
        image = self.client.images.get(IMAGE)
        image.tag(name, "one")
        lines = list(self.client.images.push(name, tag="one", stream=True, decode=True))
        self.assertTrue(any("aux" in line for line in lines))
        self.client.images.remove(f"{name}:one")
        pulled = self.client.images.pull(name, tag="one")
        self.assertEqual(pulled.id, image.id)
        self.assertEqual(len(pulled.attrs["RepoDigests"]), 1)

    @unittest.skipUnless("REGISTRY" in os.environ, "no registry")
    def test_registry_data(self):
        name = f"{os.environ['REGISTRY']}/tour/asked"
        self.client.images.get(IMAGE).tag(name, "one")
        self.client.images.push(name, tag="one")
        data = self.client.images.get_registry_data(f"{name}:one")
        self.assertTrue(data.id.startswith("sha256:"))
        self.assertTrue(data.has_platform("linux/amd64") or data.has_platform("linux/arm64"))
        self.assertEqual(data.pull().id, self.client.images.get(IMAGE).id)

    def test_build(self):
        dockerfile = io.BytesIO(f"FROM {IMAGE}\nRUN echo built > /built\nLABEL tour=built\n".encode())
        image, log = self.client.images.build(fileobj=dockerfile, tag="tour/built:one", rm=True)
        self.assertEqual(image.labels, {"tour": "built"})
        self.assertTrue(any("stream" in line for line in log))
        self.assertEqual(self.client.containers.run(image, "cat /built", remove=True), b"built\n")

    def test_prune_builds(self):
        self.assertIn("SpaceReclaimed", self.client.images.prune_builds())


class Containers(Stop):
    def test_run(self):
        self.assertEqual(self.client.containers.run(IMAGE, "echo hello", remove=True), b"hello\n")

    def test_run_with_stderr(self):
        output = self.client.containers.run(
            IMAGE, ["sh", "-c", "echo out; echo err >&2"], stderr=True, remove=True
        )
        self.assertEqual(sorted(output.split()), [b"err", b"out"])

    def test_run_that_streams(self):
        output = self.client.containers.run(IMAGE, "seq 3", stream=True)
        self.assertEqual(list(output), [b"1\n", b"2\n", b"3\n"])

    def test_run_that_fails(self):
        with self.assertRaises(errors.ContainerError) as raised:
            self.client.containers.run(IMAGE, ["sh", "-c", "echo no >&2; exit 7"])
        self.assertEqual((raised.exception.exit_status, raised.exception.stderr), (7, b"no\n"))

    def test_run_of_no_program(self):
        with self.assertRaises(errors.APIError) as raised:
            self.client.containers.run(IMAGE, "nosuchprogram")
        self.assertIn("nosuchprogram", str(raised.exception))

    def test_run_of_no_image(self):
        with self.assertRaises(errors.APIError):
            self.client.containers.run("127.0.0.1:1/not/there", "true")

    def test_run_on_a_network_of_no_program(self):
        network = self.client.networks.create("tour-failing")
        container = self.client.containers.create(IMAGE, "nosuchprogram", network="tour-failing")
        with self.assertRaises(errors.APIError) as raised:
            container.start()
        self.assertIn("nosuchprogram", str(raised.exception))
        container.reload()
        self.assertEqual(container.attrs["State"]["ExitCode"], 127)
        container.remove()
        network.remove()

    def test_many_options(self):
        container = self.running(
            name="tour-options",
            hostname="tour",
            domainname="example",
            environment={"A": "1", "B": "two words"},
            labels={"tour": "yes"},
            working_dir="/tmp",
            user="nobody",
            mem_limit="64m",
            memswap_limit="64m",
            cpu_shares=512,
            cpu_period=100000,
            cpu_quota=50000,
            pids_limit=50,
            cap_add=["NET_ADMIN"],
            cap_drop=["MKNOD"],
            dns=["192.0.2.53"],
            dns_search=["example.org"],
            extra_hosts={"friend": "192.0.2.7"},
            sysctls={"net.ipv4.ip_forward": "0"},
            ulimits=[types.Ulimit(name="nofile", soft=100, hard=200)],
            tmpfs={"/scratch": "size=1m"},
            shm_size="16m",
            read_only=True,
            init=True,
            group_add=["1234"],
            log_config=types.LogConfig(type="json-file", config={"max-size": "1m"}),
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
            security_opt=["no-new-privileges"],
            oom_score_adj=100,
            volumes={"tour-options-volume": {"bind": "/data", "mode": "rw"}},
        )
        container.reload()
        host = container.attrs["HostConfig"]
        self.assertEqual(host["Memory"], 64 * 1024 * 1024)
        self.assertEqual(host["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 2})
        self.assertEqual(container.labels["tour"], "yes")
        inside = container.exec_run(
            ["sh", "-c", "hostname; id -u; pwd; echo $A $B; ulimit -n; grep -c friend /etc/hosts; touch /x || echo ro"]
        ).output.decode()
        for expected in ("tour\n", "65534\n", "/tmp\n", "1 two words\n", "100\n", "1\n", "ro\n"):
            self.assertIn(expected, inside)

    def test_get_and_list(self):
        container = self.running(name="tour-listed", labels={"tour": "listed"})
        self.assertEqual(self.client.containers.get("tour-listed").id, container.id)
        self.assertEqual(self.client.containers.get(container.short_id).id, container.id)
        listed = self.client.containers.list(filters={"label": "tour=listed"})
        self.assertEqual([(each.id, each.name, each.status) for each in listed], [(container.id, "tour-listed", "running")])
        self.assertEqual(container.image.tags, [IMAGE])

    def test_list_with_limit_and_before(self):
        first = self.client.containers.create(IMAGE, "true")
        second = self.client.containers.create(IMAGE, "true")
        self.assertEqual([each.id for each in self.client.containers.list(limit=1)], [second.id])
        for name, of, found in (("before", second, first), ("since", first, second)):
            listed = self.client.containers.list(all=True, filters={name: of.id})
            self.assertEqual([each.id for each in listed], [found.id])

    def test_list_sparse(self):
        container = self.running()
        listed = self.client.containers.list(sparse=True, filters={"id": container.id})
        self.assertEqual(listed[0].status, "running")

    def test_get_what_is_not_there(self):
        with self.assertRaises(errors.NotFound):
            self.client.containers.get("notthere")

    def test_name_in_use(self):
        self.client.containers.create(IMAGE, "true", name="tour-name")
        with self.assertRaises(errors.APIError) as raised:
            self.client.containers.create(IMAGE, "true", name="tour-name")
        self.assertEqual(raised.exception.status_code, 409)

    def test_stop_start_restart_kill(self):
        container = self.running()
        container.stop(timeout=1)
        container.reload()
        self.assertEqual(container.status, "exited")
        container.start()
        container.restart(timeout=0)
        container.reload()
        self.assertEqual(container.status, "running")
        container.kill(signal="SIGKILL")
        self.assertEqual(container.wait()["StatusCode"], 137)

    def test_kill_with_a_signal(self):
        container = self.client.containers.run(
            IMAGE, ["sh", "-c", "trap 'exit 3' USR1; echo ready; while :; do sleep 0.1; done"], detach=True
        )
        until(lambda: container.logs() == b"ready\n", "the trap is set")
        container.kill("SIGUSR1")
        self.assertEqual(container.wait()["StatusCode"], 3)

    def test_pause(self):
        container = self.running()
        container.pause()
        container.reload()
        self.assertEqual(container.status, "paused")
        container.unpause()
        container.reload()
        self.assertEqual(container.status, "running")

    def test_wait(self):
        container = self.client.containers.run(IMAGE, ["sh", "-c", "exit 5"], detach=True)
        self.assertEqual(container.wait()["StatusCode"], 5)

    def test_wait_for_removal(self):
        container = self.client.containers.create(IMAGE, ["sh", "-c", "exit 6"], auto_remove=True)
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(container.wait(condition="removed", timeout=LIMIT)))
        waiting.start()
        time.sleep(0.5)
        container.start()
        waiting.join()
        self.assertEqual(answers[0]["StatusCode"], 6)

    def test_wait_with_a_limit(self):
        container = self.running()
        with self.assertRaises(Exception) as raised:
            container.wait(timeout=1)
        self.assertRegex(type(raised.exception).__name__, "Timeout|ConnectionError")

    def test_rename(self):
        container = self.running(name="tour-before")
        container.rename("tour-after")
        container.reload()
        self.assertEqual(container.name, "tour-after")

    def test_update(self):
        container = self.running(mem_limit="64m", memswap_limit="128m")
        container.update(mem_limit="32m", restart_policy={"Name": "always"})
        container.reload()
        self.assertEqual(container.attrs["HostConfig"]["Memory"], 32 * 1024 * 1024)
        self.assertEqual(container.attrs["HostConfig"]["RestartPolicy"]["Name"], "always")
        container.update(restart_policy={"Name": "no"})

    def test_top(self):
        container = self.running("sleep 123")
        top = container.top(ps_args="-o pid,args")
        self.assertEqual(top["Titles"], ["PID", "COMMAND"])
        self.assertIn("sleep 123", top["Processes"][0][1])

    def test_stats(self):
        container = self.running(mem_limit="64m")
        once = container.stats(stream=False)
        self.assertEqual(once["memory_stats"]["limit"], 64 * 1024 * 1024)
        stream = container.stats(decode=True)
        self.assertGreater(next(stream)["pids_stats"]["current"], 0)
        stream.close()

    def test_diff(self):
        container = self.client.containers.run(IMAGE, "touch /added", detach=True)
        container.wait()
        self.assertIn({"Path": "/added", "Kind": 1}, container.diff())

    def test_commit(self):
        container = self.client.containers.run(IMAGE, ["sh", "-c", "echo kept > /kept"], detach=True)
        container.wait()
        image = container.commit("tour/committed", "one", message="m", author="a", changes='ENV B=2')
        self.assertIn("B=2", image.attrs["Config"]["Env"])
        self.assertEqual(self.client.containers.run(image.id, "cat /kept", remove=True), b"kept\n")

    def test_export(self):
        container = self.client.containers.create(IMAGE, "true")
        archive = tarfile.open(fileobj=io.BytesIO(b"".join(container.export())))
        self.assertIn("bin/busybox", archive.getnames())

    def test_put_and_get_archive(self):
        container = self.client.containers.create(IMAGE, "true")
        self.assertTrue(container.put_archive("/tmp", tar_of({"file": b"content"})))
        stream, stat = container.get_archive("/tmp/file")
        self.assertEqual((stat["name"], stat["size"]), ("file", 7))
        archive = tarfile.open(fileobj=io.BytesIO(b"".join(stream)))
        self.assertEqual(archive.extractfile("file").read(), b"content")

    def test_get_archive_encoded(self):
        container = self.client.containers.create(IMAGE, "true")
        container.put_archive("/tmp", tar_of({"file": b"content" * 100}))
        stream, _ = container.get_archive("/tmp/file", encode_stream=True)
        archive = tarfile.open(fileobj=io.BytesIO(b"".join(stream)))
        self.assertEqual(len(archive.extractfile("file").read()), 700)

    def test_archive_of_what_is_not_there(self):
        container = self.client.containers.create(IMAGE, "true")
        with self.assertRaises(errors.NotFound):
            container.get_archive("/not/there")
        with self.assertRaises(errors.NotFound):
            container.put_archive("/not/there", tar_of({"file": b"x"}))

    def test_archives_around_the_end(self):
        """Either the running or the ended container answers, always."""
        for _ in range(10):
            container = self.client.containers.run(IMAGE, ["sh", "-c", "echo x > /made"], detach=True)
            container.wait()
            stream, _ = container.get_archive("/made")
            self.assertTrue(b"".join(stream))
            self.assertIn({"Path": "/made", "Kind": 1}, container.diff())
            container.remove()

    def test_remove(self):
        container = self.client.containers.create(IMAGE, "true", volumes=["/data"])
        container.remove(v=True)
        with self.assertRaises(errors.NotFound):
            container.reload()

    def test_remove_of_one_that_runs(self):
        container = self.running()
        with self.assertRaises(errors.APIError) as raised:
            container.remove()
        self.assertEqual(raised.exception.status_code, 409)

    def test_prune(self):
        container = self.client.containers.create(IMAGE, "true", labels={"tour": "pruned"})
        pruned = self.client.containers.prune(filters={"label": "tour=pruned"})
        self.assertEqual(pruned["ContainersDeleted"], [container.id])

    def test_health(self):
        container = self.running(
            healthcheck=types.Healthcheck(test=["CMD", "true"], interval=500_000_000, timeout=5_000_000_000)
        )
        until(lambda: container.reload() or container.health == "healthy", "it is healthy")

    def test_restart_policy(self):
        container = self.client.containers.run(
            IMAGE, ["sh", "-c", "exit 1"], detach=True, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}
        )
        until(lambda: container.reload() or container.attrs["RestartCount"] == 2, "it was started three times")

    def test_links(self):
        self.running(name="tour-linked")
        container = self.running(links={"tour-linked": "alias"})
        self.assertEqual(container.exec_run("ping -c 1 -W 5 alias").exit_code, 0)

    def test_network_mode_of_a_container(self):
        first = self.running()
        second = self.running(network_mode=f"container:{first.id}")
        addresses = [each.exec_run(["sh", "-c", "ip -o addr"]).output for each in (first, second)]
        self.assertEqual(addresses[0], addresses[1])

    def test_pid_mode_of_a_container(self):
        first = self.running("sleep 1234")
        second = self.running(pid_mode=f"container:{first.id}")
        self.assertIn(b"sleep 1234", second.exec_run("ps").output)

    def test_device(self):
        container = self.running(devices=["/dev/null:/dev/other:rwm"])
        self.assertEqual(container.exec_run("test -c /dev/other").exit_code, 0)

    def test_privileged(self):
        container = self.running(privileged=True)
        self.assertEqual(container.exec_run(["sh", "-c", "mount -t tmpfs none /tmp"]).exit_code, 0)

    def test_bind_mount(self):
        os.makedirs("/tmp/tour-bind", exist_ok=True)
        with open("/tmp/tour-bind/file", "w", encoding="utf8") as file:
            file.write("bound")
        mount = types.Mount("/here", "/tmp/tour-bind", type="bind", read_only=True)
        output = self.client.containers.run(IMAGE, ["sh", "-c", "cat /here/file; touch /here/x || echo ro"], mounts=[mount], remove=True)
        self.assertIn(b"bound", output)
        self.assertIn(b"ro\n", output)

    def test_bind_mount_of_nothing(self):
        mount = types.Mount("/here", "/not/there", type="bind")
        with self.assertRaises(errors.APIError) as raised:
            self.client.containers.create(IMAGE, "true", mounts=[mount])
        self.assertEqual(raised.exception.status_code, 400)

    def test_tmpfs_mount(self):
        mount = types.Mount("/here", None, type="tmpfs", tmpfs_size="1m", tmpfs_mode=0o700)
        output = self.client.containers.run(IMAGE, ["sh", "-c", "stat -c %a /here; mount | grep -c ' /here '"], mounts=[mount], remove=True)
        self.assertEqual(output, b"700\n1\n")

    def test_volumes_from(self):
        donor = self.api.create_container(IMAGE, ["sh", "-c", "echo given > /data/file"], volumes=["/data"])
        self.api.start(donor)
        self.api.wait(donor)
        self.assertEqual(
            self.client.containers.run(IMAGE, "cat /data/file", volumes_from=[donor["Id"]], remove=True), b"given\n"
        )

    def test_published_port(self):
        container = self.running(["httpd", "-f", "-p", "80", "-h", "/etc"], ports={"80/tcp": ("127.0.0.1", None)})
        container.reload()
        port = int(container.ports["80/tcp"][0]["HostPort"])

        def fetched():
            with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
                try:
                    connection.sendall(b"GET /passwd HTTP/1.0\r\n\r\n")
                    return b"".join(iter(lambda: connection.recv(65536), b""))
                except ConnectionError:
                    return b""

        self.assertIn(b"root:x:0:0", until(fetched, "the server answers"))

    def test_published_port_with_nobody_behind_it(self):
        """The connection is closed, never reset."""
        container = self.running(ports={"80/tcp": ("127.0.0.1", None)})
        container.reload()
        port = int(container.ports["80/tcp"][0]["HostPort"])
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
                self.assertEqual(connection.recv(1), b"")

    def test_port_of_the_low_level_client(self):
        container = self.running(ports={"80/tcp": 0})
        self.assertTrue(int(self.api.port(container.id, 80)[0]["HostPort"]) > 0)


class Logs(Stop):
    def logged(self, script):
        container = self.client.containers.run(IMAGE, ["sh", "-c", script], detach=True)
        container.wait()
        return container

    def test_whole(self):
        self.assertEqual(self.logged("echo one; echo two").logs(), b"one\ntwo\n")

    def test_streams_apart(self):
        container = self.logged("echo out; echo err >&2")
        self.assertEqual(container.logs(stderr=False), b"out\n")
        self.assertEqual(container.logs(stdout=False), b"err\n")

    def test_tail(self):
        self.assertEqual(self.logged("seq 10").logs(tail=2), b"9\n10\n")

    def test_lines_one_by_one(self):
        """docker-py's loop takes a frame for a line."""
        self.assertEqual(
            list(self.logged("seq 100").logs(stream=True)), [f"{number}\n".encode() for number in range(1, 101)]
        )

    def test_lines_that_are_followed(self):
        container = self.client.containers.run(IMAGE, ["sh", "-c", "seq 20; sleep 1; seq 20"], detach=True)
        lines = list(container.logs(stream=True, follow=True))
        self.assertEqual(lines, [f"{number}\n".encode() for number in range(1, 21)] * 2)

    def test_line_that_comes_in_parts(self):
        container = self.client.containers.run(
            IMAGE, ["sh", "-c", "printf one; sleep 1; echo two; sleep 1"], detach=True
        )
        self.assertEqual(list(container.logs(stream=True, follow=True)), [b"onetwo\n"])

    def test_since_and_until(self):
        container = self.logged("echo now")
        self.assertEqual(container.logs(since=int(time.time()) + 60), b"")
        self.assertEqual(container.logs(until=1), b"")
        self.assertEqual(container.logs(since=1), b"now\n")

    def test_timestamps(self):
        self.assertRegex(self.logged("echo dated").logs(timestamps=True), rb"^\d{4}-\d\d-\d\dT[\d:.]+Z dated\n$")

    def test_of_a_terminal(self):
        container = self.client.containers.run(IMAGE, ["sh", "-c", "echo one; echo two"], tty=True, detach=True)
        container.wait()
        self.assertEqual(container.logs(), b"one\r\ntwo\r\n")


class Exec(Stop):
    def test_output(self):
        container = self.running()
        for number in range(30):
            result = container.exec_run(["echo", str(number)])
            self.assertEqual((result.exit_code, result.output), (0, f"{number}\n".encode()))

    def test_exit_code(self):
        self.assertEqual(self.running().exec_run(["sh", "-c", "exit 9"]).exit_code, 9)

    def test_streams_apart(self):
        result = self.running().exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
        self.assertEqual(result.output, (b"out\n", b"err\n"))

    def test_stream(self):
        result = self.running().exec_run(["sh", "-c", "echo 1; sleep 0.5; echo 2"], stream=True)
        self.assertEqual(b"".join(result.output), b"1\n2\n")

    def test_stream_apart(self):
        result = self.running().exec_run(["sh", "-c", "echo out; sleep 0.5; echo err >&2"], stream=True, demux=True)
        self.assertEqual(list(result.output), [(b"out\n", None), (None, b"err\n")])

    def test_detached(self):
        container = self.running()
        self.assertFalse(container.exec_run("touch /made", detach=True).output)
        until(lambda: container.exec_run("test -e /made").exit_code == 0, "the detached command ran")

    def test_environment_user_and_directory(self):
        result = self.running().exec_run(
            ["sh", "-c", "echo $A; id -u; pwd"], environment={"A": "b"}, user="nobody", workdir="/tmp"
        )
        self.assertEqual(result.output, b"b\n65534\n/tmp\n")

    def test_privileged(self):
        container = self.running()
        capabilities = [
            int(container.exec_run("grep CapEff /proc/self/status", privileged=privileged).output.split()[1], 16)
            for privileged in (False, True)
        ]
        self.assertGreater(capabilities[1], capabilities[0])

    def test_terminal(self):
        result = self.running().exec_run(["sh", "-c", "test -t 1 && echo terminal"], tty=True)
        self.assertEqual(result.output, b"terminal\r\n")

    def test_socket(self):
        container = self.running()
        created = self.api.exec_create(container.id, "cat", stdin=True)
        connection = self.api.exec_start(created, socket=True)
        self.addCleanup(connection.close)
        raw = connection._sock
        raw.sendall(b"hello\n")
        raw.shutdown(socket.SHUT_WR)
        output = b"".join(data for _, data in frames_iter(connection, tty=False))
        self.assertEqual(output, b"hello\n")

    def test_raw_reader(self):
        """Frames as a reader without a library of Docker's takes them, from the first byte after the header."""
        container = self.running()
        for number in range(20):
            created = self.api.exec_create(container.id, ["echo", str(number)])
            connection = self.api.exec_start(created, socket=True)
            header = b""
            while len(header) < 8:
                part = connection._sock.recv(8 - len(header))
                self.assertTrue(part, "the first frame was lost")
                header += part
            stream, length = struct.unpack(">BxxxL", header)
            data = b""
            while len(data) < length:
                data += connection._sock.recv(length - len(data))
            connection.close()
            self.assertEqual((stream, data), (1, f"{number}\n".encode()))

    def test_inspect(self):
        container = self.running()
        created = self.api.exec_create(container.id, "true")
        self.assertFalse(self.api.exec_inspect(created)["Running"])
        self.api.exec_start(created)
        inspected = self.api.exec_inspect(created)
        self.assertEqual((inspected["Running"], inspected["ExitCode"]), (False, 0))
        self.assertEqual(inspected["ContainerID"], container.id)

    def test_resize(self):
        container = self.running()
        created = self.api.exec_create(container.id, "sleep 10", tty=True)
        self.api.exec_start(created, detach=True)
        until(lambda: self.api.exec_inspect(created)["Running"], "it runs")
        self.api.exec_resize(created, height=20, width=60)

    def test_second_start(self):
        created = self.api.exec_create(self.running().id, "true")
        self.api.exec_start(created)
        with self.assertRaises(errors.APIError) as raised:
            self.api.exec_start(created, detach=True)
        self.assertEqual(raised.exception.status_code, 409)

    def test_of_no_program(self):
        result = self.running().exec_run("nosuchprogram")
        self.assertIn(result.exit_code, (126, 127))
        self.assertIn(b"nosuchprogram", result.output)

    def test_in_one_that_has_ended(self):
        container = self.client.containers.run(IMAGE, "true", detach=True)
        container.wait()
        with self.assertRaises(errors.APIError) as raised:
            container.exec_run("true")
        self.assertEqual(raised.exception.status_code, 409)


class Attach(Stop):
    def test_to_one_that_starts(self):
        container = self.client.containers.create(IMAGE, ["sh", "-c", "echo out; echo err >&2"])
        output = container.attach(stdout=True, stderr=True, stream=True, demux=True)
        container.start()
        self.assertEqual(sorted(filter(None, (part for pair in output for part in pair))), [b"err\n", b"out\n"])

    def test_socket(self):
        container = self.client.containers.create(IMAGE, "cat", stdin_open=True)
        connection = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        self.addCleanup(connection.close)
        container.start()
        connection._sock.sendall(b"hello\n")
        connection._sock.shutdown(socket.SHUT_WR)
        self.assertEqual(b"".join(data for _, data in frames_iter(connection, tty=False)), b"hello\n")
        self.assertEqual(container.wait()["StatusCode"], 0)

    def test_terminal(self):
        container = self.client.containers.create(IMAGE, "cat", stdin_open=True, tty=True)
        connection = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        self.addCleanup(connection.close)
        container.start()
        container.resize(height=30, width=90)
        connection._sock.sendall(b"hello\n\x04")
        output = b"".join(data for _, data in frames_iter(connection, tty=True))
        self.assertEqual(output, b"hello\r\nhello\r\n")


class Networks(Stop):
    def test_create_list_get_remove(self):
        network = self.client.networks.create("tour-network", driver="bridge", labels={"tour": "yes"}, internal=True)
        self.assertEqual([each.id for each in self.client.networks.list(names=["tour-network"])], [network.id])
        self.assertEqual([each.id for each in self.client.networks.list(ids=[network.id])], [network.id])
        self.assertEqual([each.id for each in self.client.networks.list(filters={"label": "tour=yes"})], [network.id])
        got = self.client.networks.get("tour-network")
        self.assertTrue(got.attrs["Internal"])
        network.remove()
        with self.assertRaises(errors.NotFound):
            network.reload()

    def test_list_greedy(self):
        network = self.client.networks.create("tour-greedy")
        container = self.running(network="tour-greedy")
        listed = self.client.networks.list(names=["tour-greedy"], greedy=True)
        self.assertEqual([each.id for each in listed[0].containers], [container.id])
        container.remove(force=True)
        network.remove()

    def test_addresses(self):
        pool = types.IPAMPool(subnet="10.211.0.0/16", iprange="10.211.5.0/24", gateway="10.211.5.254")
        network = self.client.networks.create("tour-ipam", ipam=types.IPAMConfig(pool_configs=[pool]))
        config = self.client.networks.get(network.id).attrs["IPAM"]["Config"][0]
        self.assertEqual(
            (config["Subnet"], config["IPRange"], config["Gateway"]),
            ("10.211.0.0/16", "10.211.5.0/24", "10.211.5.254"),
        )

    def test_connect_and_disconnect(self):
        pool = types.IPAMPool(subnet="10.212.0.0/16")
        network = self.client.networks.create("tour-connected", ipam=types.IPAMConfig(pool_configs=[pool]))
        container = self.running()
        network.connect(container, aliases=["other"], ipv4_address="10.212.7.7", driver_opt={})
        container.reload()
        endpoint = container.attrs["NetworkSettings"]["Networks"]["tour-connected"]
        self.assertEqual(endpoint["IPAddress"], "10.212.7.7")
        self.assertIn("other", endpoint["Aliases"])
        network.reload()
        self.assertEqual([each.id for each in network.containers], [container.id])
        network.disconnect(container)
        container.reload()
        self.assertNotIn("tour-connected", container.attrs["NetworkSettings"]["Networks"])

    def test_names(self):
        self.client.networks.create("tour-names")
        self.running(name="tour-named", network="tour-names")
        container = self.running(network="tour-names")
        self.assertEqual(container.exec_run("ping -c 1 -W 5 tour-named").exit_code, 0)

    def test_networking_config(self):
        self.client.networks.create("tour-config", ipam=types.IPAMConfig(pool_configs=[types.IPAMPool(subnet="10.213.0.0/16")]))
        container = self.client.containers.create(
            IMAGE, "true", network="tour-config",
            networking_config={"tour-config": self.api.create_endpoint_config(ipv4_address="10.213.3.3", aliases=["x"])},
        )
        endpoint = container.attrs["NetworkSettings"]["Networks"]["tour-config"]
        self.assertEqual(endpoint["IPAMConfig"]["IPv4Address"], "10.213.3.3")

    def test_remove_while_used(self):
        network = self.client.networks.create("tour-used")
        self.running(network="tour-used")
        with self.assertRaises(errors.APIError) as raised:
            network.remove()
        self.assertEqual(raised.exception.status_code, 403)

    def test_prune(self):
        self.client.networks.create("tour-pruned", labels={"tour": "pruned"})
        self.assertEqual(self.client.networks.prune(filters={"label": "tour=pruned"})["NetworksDeleted"], ["tour-pruned"])

    def test_ipv6(self):
        pool = types.IPAMPool(subnet="2001:db8:1::/64")
        network = self.client.networks.create(
            "tour-six", enable_ipv6=True, ipam=types.IPAMConfig(pool_configs=[pool])
        )
        network.reload()
        self.assertTrue(network.attrs["EnableIPv6"])


class Volumes(Stop):
    def test_create_list_get_remove(self):
        volume = self.client.volumes.create("tour-volume", driver="local", labels={"tour": "yes"})
        self.assertEqual(self.client.volumes.get("tour-volume").attrs["Labels"], {"tour": "yes"})
        self.assertIn(volume.id, [each.id for each in self.client.volumes.list(filters={"label": "tour=yes"})])
        volume.remove()
        with self.assertRaises(errors.NotFound):
            self.client.volumes.get("tour-volume")

    def test_unnamed(self):
        self.assertEqual(len(self.client.volumes.create().name), 64)

    def test_unknown_driver(self):
        with self.assertRaises(errors.APIError):
            self.client.volumes.create("tour-driver", driver="not-there")

    def test_tmpfs(self):
        volume = self.client.volumes.create(
            "tour-tmpfs", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
        )
        self.assertEqual(volume.attrs["Options"]["type"], "tmpfs")
        output = self.client.containers.run(IMAGE, ["sh", "-c", "mount | grep -c 'tmpfs on /v'"], volumes={"tour-tmpfs": {"bind": "/v"}}, remove=True)
        self.assertEqual(output, b"1\n")

    def test_remove_while_used(self):
        volume = self.client.volumes.create("tour-held")
        self.client.containers.create(IMAGE, "true", volumes={"tour-held": {"bind": "/v", "mode": "rw"}})
        with self.assertRaises(errors.APIError) as raised:
            volume.remove()
        self.assertEqual(raised.exception.status_code, 409)

    def test_data_lives_on(self):
        volumes = {"tour-lives": {"bind": "/v", "mode": "rw"}}
        self.client.containers.run(IMAGE, ["sh", "-c", "echo x > /v/file"], volumes=volumes, remove=True)
        self.assertEqual(self.client.containers.run(IMAGE, "cat /v/file", volumes=volumes, remove=True), b"x\n")

    def test_prune(self):
        self.client.volumes.create("tour-pruned", labels={"tour": "pruned"})
        pruned = self.client.volumes.prune(filters={"label": "tour=pruned", "all": "true"})
        self.assertEqual(pruned["VolumesDeleted"], ["tour-pruned"])


class Elsewhere(Stop):
    """What belongs to swarms and plugins: as a daemon answers that is in no swarm and has no plugin."""

    def test_no_plugins(self):
        self.assertEqual(self.client.plugins.list(), [])

    def test_no_such_plugin(self):
        with self.assertRaises(errors.NotFound):
            self.client.plugins.get("not/there")

    def test_no_services(self):
        for listing in (self.client.services, self.client.nodes, self.client.secrets, self.client.configs):
            with self.assertRaises(errors.APIError) as raised:
                listing.list()
            self.assertEqual(raised.exception.status_code, 503)

    def test_leaving_no_swarm(self):
        with self.assertRaises(errors.APIError) as raised:
            self.client.swarm.leave()
        self.assertEqual(raised.exception.status_code, 503)

    def test_search_without_a_network(self):
        with self.assertRaises(errors.APIError):
            self.client.images.search("busybox")


class Results(unittest.TestResult):
    """Prints one line of JSON a test."""

    def tell(self, action, test, output=None):
        name = test.id().removeprefix("__main__.").replace(".", "/", 1)
        if output is not None:
            print(json.dumps({"Action": "output", "Test": name, "Output": output + "\n"}), flush=True)
        print(json.dumps({"Action": action, "Test": name}), flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.failed = None

    def addSkip(self, test, reason):
        self.failed = ("skip", reason)

    def addError(self, test, err):
        super().addError(test, err)
        self.failed = ("fail", self._exc_info_to_string(err, test))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.failed = ("fail", self._exc_info_to_string(err, test))

    def stopTest(self, test):
        if self.failed is None:
            self.tell("pass", test)
        else:
            self.tell(self.failed[0], test, self.failed[1])


def chosen(suite, words):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from chosen(each, words)
        elif not words or any(word in each.id() for word in words):
            yield each


if __name__ == "__main__":
    tests = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    results = Results()
    unittest.TestSuite(chosen(tests, sys.argv[1:])).run(results)
    sys.exit(0 if results.wasSuccessful() else 1)
