/** The few system packages: installed on Debian and Ubuntu as root, else the line to run is printed. */
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";

import { announce, Failure, findProgram, run } from "./run.mjs";

/** A package and how to see that it, or something as good, is there. */
const forContainers = [
  { name: "runc", isThere: () => findProgram("runc") !== undefined || findProgram("crun") !== undefined },
  { name: "nftables", isThere: () => findProgram("nft") !== undefined },
  // Makes and checks the file systems of block volumes.
  { name: "e2fsprogs", isThere: () => findProgram("mkfs.ext4") !== undefined },
];
const forTests = [
  { name: "docker.io", isThere: () => findProgram("dockerd") !== undefined },
  // Part of docker.io up to Debian 12; a package of its own later.
  { name: "docker-cli", isThere: () => findProgram("docker") !== undefined || !isKnownToApt("docker-cli") },
  { name: "docker-registry", isThere: () => findProgram("docker-registry") !== undefined },
  { name: "busybox-static", isThere: hasStaticBusybox },
  // The simulated cloud fetches and unpacks images with programs that are not ours.
  { name: "skopeo", isThere: () => findProgram("skopeo") !== undefined },
  { name: "umoci", isThere: () => findProgram("umoci") !== undefined },
  // pip installs docker-py.
  { name: "python3-pip", isThere: () => findProgram("pip3") !== undefined },
  { name: "xz-utils", isThere: () => findProgram("xz") !== undefined },
  { name: "iproute2", isThere: () => findProgram("ip") !== undefined },
  // Compile Docker's daemon and programs of its tests.
  { name: "gcc", isThere: () => findProgram("gcc") !== undefined },
  { name: "libc6-dev", isThere: () => existsSync("/usr/include/stdio.h") },
];

/** Services that these packages start when they are installed; we want the programs only. */
const services = ["docker", "dockerd", "containerd", "docker-registry"];
const policyFile = "/usr/sbin/policy-rc.d";

/**
 * Installs what is missing.
 *
 * @param {"containers" | "tests"} purpose tests need more
 */
export async function ensureSystemPackages(purpose) {
  const wanted = purpose === "tests" ? [...forContainers, ...forTests] : forContainers;
  const missing = wanted.filter((each) => !each.isThere()).map((each) => each.name);
  if (missing.length === 0) {
    return;
  }
  const line = `apt-get install --no-install-recommends ${missing.join(" ")}`;
  if (!isDebian()) {
    announce(`missing on this machine: install what Debian names so: ${missing.join(" ")}`);
    return;
  }
  if (process.getuid() !== 0) {
    announce(`missing on this machine: run sudo ${line}`);
    return;
  }
  announce(`installing system packages: ${missing.join(" ")}`);
  const installed = await withoutStartingServices(() => aptInstall(missing));
  if (!installed || wanted.some((each) => !each.isThere())) {
    throw new Failure(`could not install system packages: run ${line}`);
  }
}

async function aptInstall(names) {
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const install = () =>
    run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", ...names], {
      env,
    });
  if ((await install()) === 0) {
    return true;
  }
  // The lists of a fresh machine or image are empty or old.
  return (await run("apt-get", ["update", "-qq"], { env })) === 0 && (await install()) === 0;
}

async function withoutStartingServices(install) {
  const runningBefore = servicesRunning();
  const addPolicy = !existsSync(policyFile);
  if (addPolicy) {
    writeFileSync(policyFile, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  }
  const removePolicy = () => {
    if (addPolicy) {
      rmSync(policyFile, { force: true });
    }
  };
  // Ctrl-C reaches apt-get too; we go on when it has ended, or the policy would stay and rule the machine.
  const ignore = () => {};
  process.on("SIGINT", ignore);
  process.on("SIGTERM", ignore);
  try {
    return await install();
  } finally {
    process.off("SIGINT", ignore);
    process.off("SIGTERM", ignore);
    removePolicy();
    for (const [pid, name] of servicesRunning()) {
      if (!runningBefore.has(pid)) {
        announce(`stopping ${name}, which its package started`);
        process.kill(pid);
      }
    }
  }
}

/** The processes of those services, by process ID. */
function servicesRunning() {
  const found = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
      if (services.includes(name)) {
        found.set(Number(pid), name);
      }
    } catch {
      // It has just ended.
    }
  }
  return found;
}

function isDebian() {
  if (!existsSync("/etc/os-release") || findProgram("apt-get") === undefined) {
    return false;
  }
  return /^(ID|ID_LIKE)=.*\b(debian|ubuntu)\b/m.test(readFileSync("/etc/os-release", "utf8"));
}

function isKnownToApt(name) {
  const lists = "/var/lib/apt/lists";
  return (
    existsSync(lists) &&
    readdirSync(lists)
      .filter((file) => file.endsWith("_Packages"))
      .some((file) => readFileSync(`${lists}/${file}`).includes(`\nPackage: ${name}\n`))
  );
}

/** A busybox that needs no libraries: images are made of it. */
function hasStaticBusybox() {
  const file = findProgram("busybox");
  if (file === undefined) {
    return false;
  }
  // A dynamic program names its loader in the first page.
  const page = Buffer.alloc(4096);
  const descriptor = openSync(file, "r");
  readSync(descriptor, page);
  closeSync(descriptor);
  return !page.includes("/ld-");
}
