"""Runs what moto's ECS is asked to run: each container of a task by runc, in the task's own network namespace."""

import copy
import itertools
import json
import subprocess
import threading
import time
from datetime import datetime, timezone

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ecs import models
from moto.efs import efs_backends
from moto.logs import logs_backends
from moto.moto_api import state_manager

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP "
        "SETUID SYS_CHROOT"
    ).split()
]
# moto puts a task one state further each time that somebody looks; here a task is where its processes are.
NEVER = 1 << 62


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


class Runner:
    """The machine under one account of moto's."""

    def __init__(self, directory, region, bridge, router):
        self.directory = directory
        self.region = region
        self.bridge = bridge
        self.router = router
        self.images = Images(directory / "images")
        self.tasks = {}

    def install(self):
        """Puts itself behind moto's RunTask and StopTask."""
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": NEVER})
        addresses = (f"10.31.{high}.{low}" for high, low in itertools.product(range(1, 255), range(1, 255)))
        models.random_private_ip = lambda *_: next(addresses)
        backend = models.EC2ContainerServiceBackend
        run_task, stop_task = backend.run_task, backend.stop_task

        def running(ecs, *arguments, **named):
            answered = run_task(ecs, *arguments, **named)
            for state in answered:
                definition = ecs.describe_task_definition(state.task_definition_arn)
                task = Task(self, state, definition)
                self.tasks[state.id] = task
                task.thread.start()
            return answered

        def stopping(ecs, cluster, name, reason):
            task = self.tasks[name.split("/")[-1]]
            if task.state.last_status == "STOPPED":
                return task.state
            status = task.state.last_status
            stop_task(ecs, cluster, name, reason)
            task.state.last_status = status
            task.stop("UserInitiated", reason)
            return task.state

        backend.run_task, backend.stop_task = running, stopping
        # moto adds up the memory that each container has by itself, and trips over one that has none, as Fargate's may.
        backend._calculate_task_resource_requirements = lambda *_: {}

    def end(self):
        """Ends every task; runc takes its control groups away."""
        for task in self.tasks.values():
            task.kill()
        for task in self.tasks.values():
            task.thread.join()


class Images:
    """Unpacked images, by reference."""

    def __init__(self, directory):
        self.directory = directory
        self.directory.mkdir()
        self.lock = threading.Lock()
        self.known = {}

    def pull(self, reference):
        """Answers the directory of the files and the configuration."""
        with self.lock:
            if reference not in self.known:
                self.known[reference] = self.unpack(reference, self.directory / str(len(self.known)))
            return self.known[reference]

    def unpack(self, reference, place):
        layout, files = place / "layout", place / "rootfs"
        place.mkdir()
        copied = ["copy", "--quiet", "--src-tls-verify=false", "--src-no-creds"]
        run("skopeo", "--insecure-policy", *copied, f"docker://{reference}", f"oci:{layout}:image")
        run("umoci", "raw", "unpack", "--image", f"{layout}:image", str(files))
        config = run("skopeo", "inspect", "--config", f"oci:{layout}:image")
        return files, json.loads(config).get("config", {})


class Task:
    """A task: moto's record of it, its namespace, its containers."""

    def __init__(self, runner, state, definition):
        self.runner = runner
        self.state = state
        self.definition = definition
        self.place = runner.directory / "tasks" / state.id
        self.address = next(
            each["value"] for each in state.attachments[0]["details"] if each["name"] == "privateIPv4Address"
        )
        self.stopping = threading.Event()
        self.running = {}
        self.thread = threading.Thread(target=self.live, daemon=True)
        state.status = "PROVISIONING"
        state.containers = [self.container(each) for each in definition.container_definitions]

    def container(self, described):
        known = copy.copy(self.state.containers[0])
        known.name, known.image = described["name"], described["image"]
        known.exitCode = None
        known.last_status = "PENDING"
        return known

    def live(self):
        failure = None
        try:
            self.network()
            self.state.status = "PENDING"
            ended = {}
            for described in self.ordered():
                if self.stopping.is_set():
                    break
                ended[described["name"]] = self.launch(described)
            # The essential one's end is the task's.
            for thread in ended.values():
                thread.join()
        except Exception as error:
            failure = str(error)
        self.finish(failure)

    def ordered(self):
        """A container comes after those that it depends on, which end before."""
        return sorted(self.definition.container_definitions, key=lambda each: len(each.get("dependsOn") or []))

    def network(self):
        """A namespace that is held by a process which sleeps, with an interface on the bridge."""
        self.pause = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE
        )
        self.pause.stdout.readline()
        outside = f"t{self.state.id[:12]}"
        pid = str(self.pause.pid)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth1", "netns", pid)
        run("ip", "link", "set", outside, "master", self.runner.bridge, "up")
        for command in (
            ["link", "set", "lo", "up"],
            ["address", "add", f"{self.address}/16", "dev", "eth1"],
            ["link", "set", "eth1", "up"],
            ["route", "add", "default", "via", self.runner.router],
        ):
            run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", *command)

    def launch(self, described):
        """Starts a container; one that is not essential has ended when this returns."""
        name = described["name"]
        record = next(each for each in self.state.containers if each.name == name)
        bundle = self.bundle(described)
        record.last_status = "RUNNING"
        if described.get("essential", True):
            self.state.status = "RUNNING"
            self.state.started_at = datetime.now(timezone.utc)
        runtime_id = f"{self.state.id}-{name}"
        process = subprocess.Popen(
            ["runc", "--root", str(self.runner.directory / "runc"), "run", "--bundle", str(bundle), runtime_id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.running[runtime_id] = process
        logged = threading.Thread(target=self.log, args=(described, process.stdout), daemon=True)
        logged.start()

        def follow():
            record.exitCode = process.wait()
            logged.join()
            record.last_status = "STOPPED"
            self.running.pop(runtime_id)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        if not described.get("essential", True):
            follower.join()
            if record.exitCode != 0:
                raise RuntimeError(f"container {name} ended with {record.exitCode}")
        elif self.stopping.is_set():
            self.signal("TERM")
        return follower

    def bundle(self, described):
        """The container's files and what runc is to make of them."""
        files, image = self.runner.images.pull(described["image"])
        place = self.place / described["name"]
        root, upper, work = place / "rootfs", place / "upper", place / "work"
        for each in (root, upper, work):
            each.mkdir(parents=True)
        run("mount", "-t", "overlay", "-o", f"lowerdir={files},upperdir={upper},workdir={work}", "overlay", str(root))
        run("runc", "spec", "--bundle", str(place))
        spec = json.loads((place / "config.json").read_text())
        process = spec["process"]
        process["terminal"] = False
        process["args"] = (described.get("entryPoint") or image.get("Entrypoint") or []) + (
            described.get("command") or image.get("Cmd") or []
        )
        process["cwd"] = image.get("WorkingDir") or "/"
        process["env"] = self.environment(described, image)
        process["noNewPrivileges"] = False
        process["rlimits"] = []
        process["capabilities"] = {each: CAPABILITIES for each in ("bounding", "permitted", "effective")}
        spec["root"]["readonly"] = bool(described.get("readonlyRootFilesystem"))
        spec["hostname"] = f"ip-{self.address.replace('.', '-')}.{self.runner.region}.compute.internal"
        spec["linux"]["cgroupsPath"] = f"/sockerless-moto-{self.state.id}-{described['name']}"
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/proc/{self.pause.pid}/ns/net"
        spec["mounts"] += self.mounts(described, place)
        (place / "config.json").write_text(json.dumps(spec))
        return place

    def environment(self, described, image):
        merged = dict(each.split("=", 1) for each in image.get("Env") or [])
        overrides = (self.state.overrides or {}).get("containerOverrides", [])
        own = [each for each in overrides if each["name"] == described["name"]]
        for variable in (described.get("environment") or []) + (own[0].get("environment") or [] if own else []):
            merged[variable["name"]] = variable["value"]
        merged.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return [f"{name}={value}" for name, value in merged.items()]

    def mounts(self, described, place):
        mounts = []
        for file in ("hosts", "resolv.conf"):
            (place / file).write_text("127.0.0.1 localhost\n" if file == "hosts" else "")
            mounts.append((f"/etc/{file}", place / file, False))
        for point in described.get("mountPoints") or []:
            source = self.volume(point["sourceVolume"])
            mounts.append((point["containerPath"], source, bool(point.get("readOnly"))))
        binds = [
            {
                "destination": target,
                "type": "bind",
                "source": str(source),
                "options": ["rbind", "ro" if read_only else "rw"],
            }
            for target, source, read_only in mounts
        ]
        tmpfs = [
            {
                "destination": each["containerPath"],
                "type": "tmpfs",
                "source": "tmpfs",
                "options": [*(each.get("mountOptions") or []), f"size={each['size']}m"],
            }
            for each in (described.get("linuxParameters") or {}).get("tmpfs") or []
        ]
        return sorted(binds + tmpfs, key=lambda each: each["destination"].count("/"))

    def volume(self, name):
        """A directory of the task's own, or that of an access point."""
        volume = next(each for each in self.definition.volumes if each["name"] == name)
        efs = volume.get("efsVolumeConfiguration")
        if efs is None:
            place = self.place / "volumes" / name
        else:
            point = efs["authorizationConfig"]["accessPointId"]
            backend = efs_backends[DEFAULT_ACCOUNT_ID][self.runner.region]
            path = backend.access_points[point].root_directory["Path"]
            place = self.runner.directory / "efs" / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        return place

    def log(self, described, output):
        """Each line is an event, as the awslogs driver has it."""
        options = described["logConfiguration"]["options"]
        group = options["awslogs-group"]
        stream = f"{options['awslogs-stream-prefix']}/{described['name']}/{self.state.id}"
        logs = logs_backends[DEFAULT_ACCOUNT_ID][options["awslogs-region"]]
        logs.create_log_stream(group, stream)
        for line in output:
            event = {"timestamp": int(time.time() * 1000), "message": line.decode(errors="replace").rstrip("\n")}
            logs.put_log_events(group, stream, [event])

    def stop(self, code, reason):
        self.state.stop_code = code
        self.state.stopped_reason = reason
        self.stopping.set()
        self.signal("TERM")

    def kill(self):
        self.stopping.set()
        self.signal("KILL")

    def signal(self, name):
        for runtime_id in list(self.running):
            root = str(self.runner.directory / "runc")
            subprocess.run(["runc", "--root", root, "kill", runtime_id, name], capture_output=True)

    def finish(self, failure):
        self.state.desired_status = "STOPPED"
        self.state.last_status = "DEPROVISIONING"
        if not self.stopping.is_set():
            self.state.stop_code = "TaskFailedToStart" if failure else "EssentialContainerExited"
            self.state.stopped_reason = failure or "Essential container in task exited"
        self.pause.kill()
        self.pause.wait()
        self.state.stopped_at = datetime.now(timezone.utc)
        self.state.last_status = "STOPPED"
