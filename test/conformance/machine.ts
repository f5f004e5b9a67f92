/** Programs that have to be on the machine before the suites can be built and run. */
import { accessSync } from "node:fs";
import { delimiter, join } from "node:path";

const programs: Readonly<Record<string, string>> = {
  dockerd: "docker.io",
  containerd: "containerd",
  docker: "docker-cli",
  "docker-registry": "docker-registry",
  busybox: "busybox-static",
  iptables: "iptables",
  gcc: "gcc libc6-dev",
  ip: "iproute2",
  pip3: "python3-pip",
  go: "golang-go",
};

/**
 * One line for each program that is not there, with the package of Debian that brings it; and for not being root.
 *
 * @param more programs that some suites need besides, with their packages
 */
export function missingPrograms(more: Readonly<Record<string, string>> = {}): string[] {
  const directories = (process.env["PATH"] ?? "").split(delimiter).concat("/usr/sbin", "/sbin");
  const missing = Object.entries({ ...programs, ...more }).filter(
    ([program]) => !directories.some((directory) => isThere(join(directory, program))),
  );
  return [
    ...(process.getuid?.() === 0 ? [] : ["namespaces, mounts and control groups need root"]),
    ...missing.map(([program, name]) => `there is no ${program}: apt-get install ${name}`),
  ];
}

function isThere(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
