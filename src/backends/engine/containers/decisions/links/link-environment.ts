/** Environment variables that describe linked containers (`--link`). Pure. */

/** A linked container, while it runs. */
export interface LinkedContainer {
  readonly alias: string;
  /** The link's own name: `/parent/alias`. */
  readonly name: string;
  readonly address: string;
  /** `KEY=value` entries of its configuration. */
  readonly env: readonly string[];
  /** `80/tcp`. */
  readonly exposedPorts: readonly string[];
}

interface Port {
  readonly number: number;
  readonly protocol: string;
}

/** Variables of images that are not passed to linked containers. */
const unrelated = new Set(["HOME", "PATH"]);

/** The variables of one link, in Docker's order. */
export function* linkEnvironment({
  alias,
  name,
  address,
  env,
  exposedPorts,
}: LinkedContainer): Generator<string> {
  const prefix = alias.toUpperCase().replaceAll("-", "_");
  const ports = exposedPorts.map(parsePort).sort(tcpFirst);
  const [first] = ports;
  const url = ({ protocol, number }: Port): string => `${protocol}://${address}:${number}`;
  if (first !== undefined) {
    yield `${prefix}_PORT=${url(first)}`;
  }
  for (const range of rangesOf(ports)) {
    for (const port of range) {
      const variable = `${prefix}_PORT_${port.number}_${port.protocol.toUpperCase()}`;
      yield `${variable}=${url(port)}`;
      yield `${variable}_ADDR=${address}`;
      yield `${variable}_PORT=${port.number}`;
      yield `${variable}_PROTO=${port.protocol}`;
    }
    yield* boundsOf(range, prefix, url);
  }
  yield `${prefix}_NAME=${name}`;
  for (const entry of env) {
    if (entry.includes("=") && !unrelated.has(entry.slice(0, entry.indexOf("=")))) {
      yield `${prefix}_ENV_${entry}`;
    }
  }
}

function parsePort(text: string): Port {
  const [number = "", protocol = "tcp"] = text.split("/");
  return { number: Number(number), protocol };
}

function tcpFirst(a: Port, b: Port): number {
  if (a.protocol === b.protocol) {
    return a.number - b.number;
  }
  if (a.protocol === "tcp" || b.protocol === "tcp") {
    return a.protocol === "tcp" ? -1 : 1;
  }
  return a.protocol < b.protocol ? -1 : 1;
}

/** Consecutive ports of one protocol. */
function rangesOf(ports: readonly Port[]): Port[][] {
  const ranges: Port[][] = [];
  for (const port of ports) {
    const range = ranges.at(-1);
    const last = range?.at(-1);
    if (range !== undefined && last?.protocol === port.protocol && last.number + 1 === port.number) {
      range.push(port);
    } else {
      ranges.push([port]);
    }
  }
  return ranges;
}

function boundsOf(range: readonly Port[], prefix: string, url: (port: Port) => string): string[] {
  const [start] = range;
  const end = range.at(-1);
  if (start === undefined || end === undefined || start === end) {
    return [];
  }
  const variable = `${prefix}_PORT_${start.number}_${start.protocol.toUpperCase()}`;
  return [
    `${variable}_START=${url(start)}`,
    `${variable}_PORT_START=${start.number}`,
    `${variable}_END=${url(end)}`,
    `${variable}_PORT_END=${end.number}`,
  ];
}
