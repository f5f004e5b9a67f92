/** Requests of the commands to a daemon of their own machine or another. */
import { request as requestHttp, type RequestOptions } from "node:http";
import { request as requestHttps } from "node:https";
import { text } from "node:stream/consumers";
import { urlToHttpOptions } from "node:url";

import { systemError } from "../common/errors.ts";

/** An answer, whatever its status. */
export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** The options that lead to an address. @param address `unix:///path` or `tcp://host:port` */
export function connectionTo(address: string): RequestOptions {
  if (address.startsWith("unix://")) {
    return { socketPath: address.slice("unix://".length) };
  }
  const { hostname, port } = urlToHttpOptions(new URL(address));
  return { hostname, port };
}

/**
 * Sends a GET request, over TLS where the options have certificates.
 *
 * @param peer begins the message of a failure: "the daemon"
 * @param options `timeout` in milliseconds; without one, it waits as long as the peer does
 * @throws system: nothing answers
 */
export async function get(
  peer: string,
  options: RequestOptions & { readonly ca?: Buffer },
): Promise<HttpAnswer> {
  const answered = Promise.withResolvers<HttpAnswer>();
  const send = options.ca === undefined ? requestHttp : requestHttps;
  const asked = send(options, (response) => {
    text(response).then(
      (body) => answered.resolve({ status: response.statusCode ?? 0, body }),
      answered.reject,
    );
  }).on("error", (error) => answered.reject(systemError(`${peer} does not answer: ${error.message}`, error)));
  const { timeout } = options;
  if (timeout !== undefined) {
    // Node's agent has a timeout of its own, which is told in the same way.
    asked.on("timeout", () => asked.destroy(new Error(`no answer within ${timeout / 1000} s`)));
  }
  asked.end();
  return await answered.promise;
}
