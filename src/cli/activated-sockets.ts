/** Listening sockets that the service manager has opened before the start: sd_listen_fds(3). */
import { closeSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";

import { errnoOf, invalid } from "../common/errors.ts";
import { type KeptSocket, socketFileOf } from "../common/held-sockets.ts";

const firstDescriptor = 3;
const unixScheme = "unix://";
/** `__SO_ACCEPTCON` among the flags in /proc/net/unix: the socket listens. */
const listens = 0x10000;

/**
 * Takes the sockets over, and removes their variables from the environment.
 *
 * @param hosts the configured addresses, each of which may have one
 * @throws SockerlessError of kind `invalid` for a socket that is no configured address
 */
export function activatedSockets(
  hosts: readonly string[],
  environment: NodeJS.ProcessEnv,
): readonly KeptSocket[] {
  const { LISTEN_PID, LISTEN_FDS } = environment;
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) {
    delete environment[name];
  }
  const count = LISTEN_PID === String(process.pid) ? Number(LISTEN_FDS) : 0;
  return Array.from({ length: count }, (_, index) => {
    const fd = firstDescriptor + index;
    const path = listeningPath(fd);
    const address = hosts.find(
      (each) => each.startsWith(unixScheme) && resolved(each.slice(unixScheme.length)) === resolved(path),
    );
    if (address === undefined) {
      throw invalid(
        `the service manager listens on ${path}, which is none of the hosts here: ${hosts.join(", ")}`,
      );
    }
    const file = socketFileOf(path) ?? "";
    return {
      socket: { address, boundAddress: address, file, isOfServiceManager: true },
      handle: { fd, close: () => closeSync(fd) },
    };
  });
}

/** Path of the unix socket that a descriptor listens on. @throws SockerlessError of kind `invalid` if it is no such socket */
function listeningPath(fd: number): string {
  const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  for (const line of readFileSync("/proc/net/unix", "utf8").split("\n")) {
    const [, , , flags = "", , , socket, ...path] = line.trim().split(/\s+/);
    if (socket === inode && (Number.parseInt(flags, 16) & listens) !== 0) {
      return path.join(" ");
    }
  }
  throw invalid(`descriptor ${fd} of the service manager is no listening unix socket`);
}

/** The path without links above its last element: /var/run is a link to /run. */
function resolved(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      return path;
    }
    throw error;
  }
}
