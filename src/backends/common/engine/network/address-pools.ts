/** Which addresses a new network gets. */
import { unavailable } from "../../../../common/errors.ts";
import { type Cidr, overlaps, parseCidr } from "./cidr.ts";

/** Docker's pools for networks that ask for no subnet, in the order in which they are taken. */
const defaultPools: readonly Cidr[] = [
  ...Array.from({ length: 15 }, (_, index) => ({
    base: ((172 * 256 + 17 + index) * 256 + 0) * 256,
    prefix: 16,
  })),
  ...Array.from({ length: 16 }, (_, index) => ({
    base: (192 * 256 + 168) * 65_536 + index * 4096,
    prefix: 20,
  })),
];

/** The address pools as `docker info` tells them. */
export const addressPools: readonly { readonly base: string; readonly size: number }[] = [
  { base: "172.17.0.0/12", size: 16 },
  { base: "192.168.0.0/16", size: 20 },
];

/**
 * The first pool that overlaps nothing that is in use. The first of all is 172.17.0.0/16, the default bridge's.
 *
 * @param used destinations in CIDR form: routes of the host and subnets of other networks; what is not IPv4 is ignored
 * @throws unavailable: all are taken
 */
export function choosePool(used: readonly string[]): Cidr {
  const taken = used.map(parseCidr).filter((cidr) => cidr !== undefined && cidr.prefix > 0) as Cidr[];
  const free = defaultPools.find((pool) => !taken.some((other) => overlaps(pool, other)));
  if (free === undefined) {
    throw unavailable("all predefined address pools have been fully subnetted");
  }
  return free;
}
