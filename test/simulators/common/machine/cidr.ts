/** IPv4 ranges in numbers, and the IPv6 addresses that go with them. */
import { BlockList, isIPv6 } from "node:net";

/** A range such as 10.1.16.0/20. */
export interface Cidr {
  /** The first address. */
  readonly base: number;
  readonly prefix: number;
}

/** @throws when the text is no range */
export function parseCidr(text: string): Cidr {
  const parts = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text)?.slice(1).map(Number);
  const [a = 256, b = 256, c = 256, d = 256, prefix = 33] = parts ?? [];
  if (Math.max(a, b, c, d) > 255 || prefix > 32) {
    throw new Error(`${text}: not a range of IPv4 addresses`);
  }
  const base = ((a * 256 + b) * 256 + c) * 256 + d;
  return { base: base - (base % sizeOf({ base, prefix })), prefix };
}

/** How many addresses a range has. */
export function sizeOf({ prefix }: Cidr): number {
  return 2 ** (32 - prefix);
}

/** Dotted form of an address. */
export function addressText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

/** `base/prefix` */
export function cidrText(cidr: Cidr): string {
  return `${addressText(cidr.base)}/${cidr.prefix}`;
}

/** Whether a range of either family, `10.1.16.0/20` or `fd00::/64`, has an address. */
export function contains(range: string, address: string): boolean {
  const [base = "", prefix = ""] = range.split("/");
  const [family, other] = ([base, address] as const).map((each) => (isIPv6(each) ? "ipv6" : "ipv4"));
  const ranges = new BlockList();
  ranges.addSubnet(base, Number(prefix), family);
  return family === other && ranges.check(address, other);
}

/**
 * An IPv6 network of a VPC, whose range of 56 bits follows from that of IPv4: so it is free where that is.
 *
 * @param vpc its IPv4 range
 * @param subnet from 1; 0 is the whole range
 */
export function ipv6Network({ base }: Cidr, subnet: number): string {
  const prefix = `fd73:${groups(base)}:${subnet}::`;
  return subnet === 0 ? `${prefix}/56` : `${prefix}/64`;
}

/** The address of an IPv6 network that goes with one of IPv4. */
export function ipv6Address(network: string, address: number): string {
  return network.replace(/::\/\d+$/, `::${groups(address)}`);
}

function groups(bits: number): string {
  return `${Math.floor(bits / 0x10000).toString(16)}:${(bits % 0x10000).toString(16)}`;
}

/** Whether two ranges have an address in common. */
export function overlap(one: Cidr, other: Cidr): boolean {
  return one.base < other.base + sizeOf(other) && other.base < one.base + sizeOf(one);
}
