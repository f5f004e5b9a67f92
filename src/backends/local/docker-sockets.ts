import type { ResolvedMount } from "../driver/workload-spec.ts";
import { isWellKnownSocket } from "../model/docker-socket.ts";

/**
 * Separates binds of the Docker socket from a container's other mounts: the container's shim serves that socket itself
 * and forwards to the frontend, so that the socket outlives any one frontend.
 *
 * @param frontendSocket path of the frontend's socket; undefined: all mounts stay as they are
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
