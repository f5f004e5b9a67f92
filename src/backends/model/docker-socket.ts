/** Binds of a Docker socket: a container that has one asks for access to the Docker API. */
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** Default socket paths of Docker clients. */
const wellKnownSockets = ["/var/run/docker.sock", "/run/docker.sock"];

/** Whether a path is a default socket of Docker clients. */
export function isWellKnownSocket(path: string): boolean {
  return wellKnownSockets.includes(path);
}

/** The paths in a container at which it asks for a Docker socket. */
export function dockerSocketsOf({ mounts }: Pick<ContainerRecord, "mounts">): string[] {
  return mounts
    .filter(({ type, source }) => type === "bind" && isWellKnownSocket(source))
    .map(({ destination }) => destination);
}
