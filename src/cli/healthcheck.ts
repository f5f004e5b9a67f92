/** `sockerless healthcheck`: whether a daemon is ready, for what watches a container. */
import { type RequestOptions, request } from "node:http";
import { text } from "node:stream/consumers";

import { isLoopback } from "../common/config/loopback.ts";
import { invalid, systemError } from "../common/errors.ts";

/** The answer of a daemon. */
export interface Readiness {
  readonly isReady: boolean;
  /** A line for each part, as `/readyz` tells them. */
  readonly text: string;
}

/** Milliseconds; `/readyz` itself takes 4 s at most. */
const patienceMs = 10_000;

/**
 * Asks `/readyz`.
 *
 * @param address of metrics, `unix:///path` or `tcp://address:port`
 * @throws invalid: there is none, or it demands a client's certificate; system: nothing answers
 */
export async function askReadiness(address: string | undefined): Promise<Readiness> {
  if (address === undefined) {
    throw invalid("metrics_addr is not set: it is the address that tells whether the daemon is ready");
  }
  return await get({ ...connectionTo(address), path: "/readyz", agent: false, timeout: patienceMs });
}

function connectionTo(address: string): RequestOptions {
  if (address.startsWith("unix://")) {
    return { socketPath: address.slice("unix://".length) };
  }
  if (!isLoopback(address)) {
    throw invalid(`${address} demands a certificate: healthcheck asks a loopback address or a unix socket`);
  }
  const { hostname, port } = new URL(address);
  return { hostname: hostname.replace(/^\[(.*)\]$/, "$1"), port };
}

async function get(options: RequestOptions): Promise<Readiness> {
  const answered = Promise.withResolvers<Readiness>();
  const asked = request(options, (response) => {
    text(response).then(
      (body) => answered.resolve({ isReady: response.statusCode === 200, text: body }),
      answered.reject,
    );
  })
    .on("timeout", () => asked.destroy(new Error(`no answer within ${patienceMs / 1000} s`)))
    .on("error", (error) =>
      answered.reject(systemError(`the daemon does not answer: ${error.message}`, error)),
    );
  asked.end();
  return await answered.promise;
}
