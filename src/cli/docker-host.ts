import { hostname } from "node:os";

/** The shell line that points Docker clients at an address of the frontend, for pasting. */
export function dockerHostLine(address: string): string {
  if (address.startsWith("unix://")) {
    return `export DOCKER_HOST=${address}`;
  }
  // `new URL` would refuse the empty host, which means every address.
  const authority = address.replace(/^tcp:\/\//, "");
  const colon = authority.lastIndexOf(":");
  const host = authority.slice(0, colon);
  const reachable = ["", "0.0.0.0", "[::]"].includes(host) ? hostname() : host;
  return `export DOCKER_HOST=tcp://${reachable}:${authority.slice(colon + 1)} DOCKER_TLS_VERIFY=1`;
}
