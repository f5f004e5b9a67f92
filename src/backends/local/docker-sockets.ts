import type { ResolvedMount } from "../driver/workload-spec.ts";

/** Paths at which Docker clients expect a daemon; a bind of one of them asks for the Docker API. */
const wellKnownSockets = ["/var/run/docker.sock", "/run/docker.sock"];

/** Whether clients expect a daemon at a path, on any machine. */
export function isWellKnownSocket(path: string): boolean {
  return wellKnownSockets.includes(path);
}

/**
 * Takes binds of the Docker socket out of a container's mounts: the container's
 * shim serves such a socket itself and forwards to the frontend, so that the
 * socket outlives any one frontend.
 *
 * @param frontendSocket path at which the frontend listens; undefined: all mounts stay as they are
 */
export function dockerSocketMounts(
  mounts: readonly ResolvedMount[],
  frontendSocket: string | undefined,
): { sockets: { containerPath: string; frontendSocket: string }[]; rest: ResolvedMount[] } {
  const sockets: { containerPath: string; frontendSocket: string }[] = [];
  const rest: ResolvedMount[] = [];
  for (const mount of mounts) {
    const meansUs =
      mount.type === "bind" &&
      frontendSocket !== undefined &&
      (mount.source === frontendSocket || isWellKnownSocket(mount.source ?? ""));
    if (meansUs) {
      sockets.push({ containerPath: mount.destination, frontendSocket });
    } else {
      rest.push(mount);
    }
  }
  return { sockets, rest };
}
