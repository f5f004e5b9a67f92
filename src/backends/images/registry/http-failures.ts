/** Failures of requests in the words of Go's net package, which Docker's users know and search for. */
import { errnoOf, messageOf } from "../../../common/errors.ts";
import { DialFailure } from "./dialer.ts";
import { RegistryUnreachable } from "./registry-errors.ts";

/** The error for a request without an answer, or with a truncated one. */
export function unreachable(method: string, url: URL, error: unknown): RegistryUnreachable {
  const verb = method.charAt(0) + method.slice(1).toLowerCase();
  return new RegistryUnreachable(`${verb} "${url.href}": ${goText(url, error)}`, { cause: error });
}

function goText(url: URL, error: unknown): string {
  if (error instanceof DialFailure) {
    return error.message;
  }
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  switch (errnoOf(error)) {
    case "ETIMEDOUT":
      return `dial tcp ${url.hostname}:${port}: i/o timeout`;
    case "ECONNRESET":
      return messageOf(error) === "socket hang up" ? "EOF" : "read: connection reset by peer";
    default:
      return messageOf(error);
  }
}
