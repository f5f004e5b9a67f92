import { BlockList, isIP } from "node:net";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Tells whether only this machine reaches an address. @param address `tcp://address:port`; names are not looked up */
export function isLoopback(address: string): boolean {
  const host = /^tcp:\/\/\[?([^\]]*?)\]?:\d+$/.exec(address)?.[1] ?? "";
  const kind = isIP(host);
  return kind === 0 ? host === "localhost" : loopback.check(host, kind === 4 ? "ipv4" : "ipv6");
}
