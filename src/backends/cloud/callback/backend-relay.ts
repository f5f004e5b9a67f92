/** The relay of a backend, which agents call at the configured address. */
import { Relay, type RelayOptions } from "./relay.ts";

/** Settings of {@link openRelay}. */
export interface BackendRelayOptions extends Omit<RelayOptions, "listen"> {
  /** Address at which agents call, as sent to them. */
  readonly url: string;
  /** `tcp://address:port`; undefined: all addresses, at the port of the URL. */
  readonly listen: string | undefined;
}

/** The port at which agents call. */
export function callbackPortOf(url: string): number {
  return Number(new URL(url).port || "443");
}

/** The address on which a backend listens for agents: `tcp://address:port`. */
export function callbackListenOf({ url, listen }: Pick<BackendRelayOptions, "url" | "listen">): string {
  return listen ?? `tcp://[::]:${callbackPortOf(url)}`;
}

/** Listens for agents. @throws system: the address cannot be bound */
export async function openRelay(options: BackendRelayOptions): Promise<Relay> {
  const { url, path, instance, callKey, logger } = options;
  const relay = await Relay.start({ listen: callbackListenOf(options), path, instance, callKey, logger });
  logger.info(`agents are waited for at ${relay.address}, and told ${url}`);
  return relay;
}
