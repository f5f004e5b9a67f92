/** A process sees no more of the machine under sockerless than under a real dockerd. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { withDaemon } from "../support/with-daemon.ts";

/** Debian's dockerd is 20.10; what later versions closed, moby v28 closes and so do we. */
const closedSince = ["/proc/interrupts", "/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu"];

const { daemon } = withDaemon();
const dockerd = duringTests(() => Dockerd.startWithBusybox());

/** The same container on both, without a network, which dockerd was started without. */
async function onBoth(flags: readonly string[], script: string): Promise<{ ours: string; theirs: string }> {
  const args = [
    "run",
    "--rm",
    "--network",
    "none",
    "--hostname",
    "box",
    ...flags,
    "busybox",
    "sh",
    "-c",
    script,
  ];
  return { ours: await daemon.ok(...args), theirs: await dockerd.ok(...args) };
}

const credentialLines =
  "grep -E '^(Uid|Gid|Groups|Cap[A-Z][a-z]*|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status";

const settings: Readonly<Record<string, readonly string[]>> = {
  "by default": [],
  "as another user": ["--user", "app"],
  "with capabilities added and dropped": ["--cap-add", "SYS_PTRACE", "--cap-drop", "MKNOD"],
  "with no capabilities": ["--cap-drop", "ALL"],
  "with no new privileges": ["--security-opt", "no-new-privileges"],
  "without the seccomp filter": ["--security-opt", "seccomp=unconfined"],
  "with more groups": ["--group-add", "daemon"],
};

describe("a process has the credentials that dockerd gives", () => {
  for (const [name, flags] of Object.entries(settings)) {
    test(name, async () => {
      const { ours, theirs } = await onBoth(flags, credentialLines);
      assert.equal(ours, theirs);
    });
  }
});

describe("a process sees of the machine what dockerd shows", () => {
  test("the same file systems are mounted, with the same options", async () => {
    const { ours, theirs } = await onBoth([], "cat /proc/self/mounts");
    assert.deepEqual(mountsOf(ours), mountsOf(theirs));
  });

  test("a read-only root is read-only in the same places", async () => {
    const { ours, theirs } = await onBoth(["--read-only"], "cat /proc/self/mounts");
    assert.deepEqual(mountsOf(ours), mountsOf(theirs));
  });

  test("the same devices exist", async () => {
    const { ours, theirs } = await onBoth(
      [],
      "find /dev ! -type d -exec ls -ln {} + | awk '{print $1, $3, $4, $5, $6, $NF}' | sort",
    );
    assert.deepEqual(withoutTimes(ours), withoutTimes(theirs));
  });

  test("the same limits hold", async () => {
    const { ours, theirs } = await onBoth(
      ["--ulimit", "nofile=1000:2000"],
      "cat /proc/self/limits | grep -v 'Max open files'; ulimit -n; ulimit -Hn",
    );
    assert.equal(ours, theirs);
  });

  test("the same environment is set", async () => {
    const { ours, theirs } = await onBoth(["-t", "-e", "A=b"], "env | sort");
    assert.equal(ours, theirs);
  });
});

describe("a process cannot do what dockerd forbids", () => {
  const attempts: Readonly<Record<string, string>> = {
    mount: "mount -t tmpfs none /tmp",
    "unshare a user namespace": "unshare -U true",
    "write to /proc/sys": "echo 1 > /proc/sys/kernel/panic",
    "trigger sysrq": "echo h > /proc/sysrq-trigger",
    "read kernel memory": "head -c1 /proc/kcore | grep -q .",
    "see the machine's keys": "head -c1 /proc/keys | grep -q .",
    "open a disk": "mknod /disk b 254 0 && head -c1 /disk",
    "write to the control groups": "mkdir /sys/fs/cgroup/memory/escape",
    "set the clock": "date -s 2001-01-01; test $(date +%Y) = 2001",
    "change the host name": "hostname other",
    "load a module": "insmod /bin/busybox",
  };
  for (const [what, script] of Object.entries(attempts)) {
    test(what, async () => {
      const { ours, theirs } = await onBoth(
        [],
        `if (${script}) >/dev/null 2>&1; then echo done; else echo refused; fi`,
      );
      assert.deepEqual({ ours, theirs }, { ours: "refused", theirs: "refused" });
    });
  }
});

/** `path type options`, without what names the storage of either daemon, sorted. */
function mountsOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([, path = ""]) => !closedSince.some((closed) => path.startsWith(closed)))
    .map(([, path = "", type = "", options = ""]) => {
      const kept =
        type === "overlay"
          ? options.split(",").slice(0, 2).join(",")
          : options.replace(/,inode64|inode=\d+,?/g, "");
      return `${path} ${type} ${kept}`;
    })
    .toSorted((a, b) => (a < b ? -1 : 1));
}

function withoutTimes(text: string): string[] {
  return text.split("\n").filter((line) => !line.includes("/dev/pts/"));
}
