/** Diagnosis of a TLS refusal by a backend on TCP: the HTTP/2 client itself sees only cancelled streams. */
import type { TLSSocket } from "node:tls";

import { errnoOf, messageOf } from "../../common/errors.ts";
import type { BackendReach } from "../streams/agent-targets.ts";
import { dialTls } from "./dial.ts";

const limitMs = 10_000;

/**
 * Connects once more and reports what fails.
 *
 * @returns a sentence with address and file; undefined where the connection works
 */
export async function refusalOf(reach: BackendReach): Promise<string | undefined> {
  const { address, tls } = reach;
  if (tls === undefined) {
    return undefined;
  }
  const socket = dialTls(reach).setTimeout(limitMs);
  try {
    return await outcomeOf(socket, address, tls.files);
  } finally {
    socket.destroy();
  }
}

function outcomeOf(
  socket: TLSSocket,
  address: string,
  files: NonNullable<BackendReach["tls"]>["files"],
): Promise<string | undefined> {
  const notOurs = `the backend at ${address} does not accept the certificate in ${files.cert}: it has to be signed by an authority that the backend trusts, for clientAuth`;
  return new Promise((resolve) => {
    let isSecure = false;
    socket.on("secureConnect", () => {
      isSecure = true;
    });
    // An HTTP/2 server sends its SETTINGS first: by then it has accepted the connection.
    socket.on("data", () => resolve(undefined));
    // Node's server closes the connection after the handshake; others send an alert, which arrives as an error.
    socket.on("end", () => resolve(notOurs));
    socket.on("timeout", () => resolve(`the backend at ${address} does not answer`));
    socket.on("error", (error: Error & { readonly reason?: string }) => {
      const code = errnoOf(error) ?? "";
      const cause = error.reason ?? messageOf(error); // OpenSSL's message names its own sources.
      if (code === "ERR_SSL_WRONG_VERSION_NUMBER") {
        resolve(`what listens at ${address} is no sockerless backend: it does not speak TLS`);
      } else if (code.endsWith("ALERT_NO_APPLICATION_PROTOCOL")) {
        resolve(`what listens at ${address} is no sockerless backend: it does not speak HTTP/2`);
      } else if (isSecure || /ALERT|CERTIFICATE_REQUIRED/.test(code)) {
        resolve(`${notOurs} (${cause})`);
      } else if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
        resolve(`the backend at ${address} has a certificate for another name: ${cause}`);
      } else if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID") {
        resolve(`the certificate of the backend at ${address} is not valid now: ${cause}`);
      } else if (socket.authorizationError !== undefined && socket.authorizationError !== null) {
        resolve(
          `the certificate of the backend at ${address} is not signed by an authority in ${files.ca}: ${cause}`,
        );
      } else {
        resolve(`cannot connect to the sockerless backend at ${address}: ${cause}`);
      }
    });
  });
}
