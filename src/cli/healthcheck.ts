/** `sockerless healthcheck`: whether a daemon is ready, for what watches a container. */
import { isLoopback } from "../common/config/loopback.ts";
import { invalid } from "../common/errors.ts";
import { connectionTo, get } from "./http-get.ts";

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
  if (!address.startsWith("unix://") && !isLoopback(address)) {
    throw invalid(`${address} demands a certificate: healthcheck asks a loopback address or a unix socket`);
  }
  const asked = { ...connectionTo(address), path: "/readyz", agent: false, timeout: patienceMs };
  const { status, body } = await get("the daemon", asked);
  return { isReady: status === 200, text: body };
}
