/** IPv4 ranges in numbers. */

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

/** Whether two ranges have an address in common. */
export function overlap(one: Cidr, other: Cidr): boolean {
  return one.base < other.base + sizeOf(other) && other.base < one.base + sizeOf(one);
}
