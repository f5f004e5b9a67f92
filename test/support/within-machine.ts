/**
 * Keeps what a demonstration or a test starts within this machine: a module that is loaded into each of its processes, and
 * refuses every public address and every name ({@link withinMachine}). What was refused is said on
 * standard error, and fails the test that finds it there.
 */
import { BlockList, isIP, isIPv4, Socket } from "node:net";

/** Begins the line that tells of a refused address. */
export const leftMachine = "refused, because it is not on this machine: ";

const variable = "SOCKERLESS_TEST_WITHIN_MACHINE";

const own = new BlockList();
for (const [network, bits] of [
  ...([
    ["0.0.0.0", 8],
    ["127.0.0.0", 8],
    ["10.0.0.0", 8],
    ["172.16.0.0", 12],
    ["192.168.0.0", 16],
  ] as const),
  ...([
    ["::", 127],
    ["fc00::", 7],
    ["fe80::", 10],
    ["::ffff:127.0.0.0", 104],
  ] as const),
] as const) {
  own.addSubnet(network, bits, isIPv4(network) ? "ipv4" : "ipv6");
}

/**
 * Whether an environment has credentials of a cloud: for whatever is not configured, its processes have the addresses of a
 * real one.
 */
export function hasCloud(env: Readonly<Record<string, string | undefined>>): boolean {
  return ["AWS_ACCESS_KEY_ID", "IDENTITY_ENDPOINT"].some((name) => env[name] !== undefined);
}

/** @throws where a process within this machine has told that it was refused another address */
export function assertWithinMachine(output: string): void {
  const left = output.split("\n").filter((line) => line.startsWith(leftMachine));
  if (left.length > 0) {
    throw new Error([...new Set(left)].join("\n"));
  }
}

/** An environment of `sockerless` whose processes stay within this machine. Of programs in other languages nothing is seen. */
export function withinMachine(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return {
    ...env,
    [variable]: "1",
    NODE_OPTIONS: `${env["NODE_OPTIONS"] ?? ""} --import=${import.meta.url}`.trim(),
  };
}

if (process.env[variable] === "1") {
  refuseOthers();
}

function refuseOthers(): void {
  const connect = Reflect.get(Socket.prototype, "connect") as (...args: unknown[]) => Socket;
  Reflect.set(Socket.prototype, "connect", function (this: Socket, ...args: unknown[]): Socket {
    const [first, second] = Array.isArray(args[0]) ? (args[0] as unknown[]) : args;
    const options = typeof first === "object" ? first : { host: second };
    const { host, path } = options as { readonly host?: unknown; readonly path?: unknown };
    if (path === undefined && typeof host === "string" && !isOwn(host)) {
      process.stderr.write(`${leftMachine}${host}\n`);
      this.destroy(Object.assign(new Error(`connect ENETUNREACH ${host}`), { code: "ENETUNREACH" }));
      return this;
    }
    return connect.apply(this, args);
  });
}

/** Whether a host is this machine, or has an address of no public network: tests make networks of such. */
function isOwn(host: string): boolean {
  const family = isIP(host);
  return family === 0
    ? host === "localhost" || host.endsWith(".localhost")
    : own.check(host, family === 4 ? "ipv4" : "ipv6");
}
