import { hostname } from "node:os";

/** The shell line that points Docker clients at an address of the frontend, for pasting. */
export function dockerHostLine(address: string): string {
  if (address.startsWith("unix://")) {
    return `export DOCKER_HOST=${address}`;
  }
  const url = new URL(address);
  const anyAddress = ["", "0.0.0.0", "[::]"].includes(url.hostname);
  const host = anyAddress ? hostname() : url.hostname;
  return `export DOCKER_HOST=tcp://${host}:${url.port} DOCKER_TLS_VERIFY=1`;
}
