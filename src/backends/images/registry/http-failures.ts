/** Connection failures in the words of Go's net package, which Docker's users know and search for. */
import { errnoOf, messageOf } from "../../../common/errors.ts";
import { RegistryUnreachable } from "./registry-errors.ts";

/** The error for a request without an answer, or with a truncated one. */
export function unreachable(method: string, url: URL, error: unknown): RegistryUnreachable {
  const verb = method.charAt(0) + method.slice(1).toLowerCase();
  return new RegistryUnreachable(`${verb} "${url.href}": ${goText(url, error)}`, { cause: error });
}

function goText(url: URL, error: unknown): string {
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  const dial = `dial tcp ${url.hostname}:${port}`;
  switch (errnoOf(error)) {
    case "ECONNREFUSED":
      return `${dial}: connect: connection refused`;
    case "EHOSTUNREACH":
      return `${dial}: connect: no route to host`;
    case "ENETUNREACH":
      return `${dial}: connect: network is unreachable`;
    case "ETIMEDOUT":
      return `${dial}: i/o timeout`;
    case "ENOTFOUND":
      return `dial tcp: lookup ${url.hostname}: no such host`;
    case "EAI_AGAIN":
      return `dial tcp: lookup ${url.hostname}: Temporary failure in name resolution`;
    case "ERR_IP_BLOCKED":
      return `${dial}: this address is not asked: it gives the machine its credentials`;
    case "ECONNRESET":
      return messageOf(error) === "socket hang up" ? "EOF" : "read: connection reset by peer";
    case "EPROTO":
    case "ERR_SSL_WRONG_VERSION_NUMBER":
    case "ERR_SSL_PACKET_LENGTH_TOO_LONG":
      return "http: server gave HTTP response to HTTPS client";
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return "tls: failed to verify certificate: x509: certificate has expired or is not yet valid";
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
      return "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    default:
      return messageOf(error);
  }
}
