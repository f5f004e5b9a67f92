/** The one query that the backend writes in the Kusto Query Language, read strictly: all else is refused. */
import { ArmFault } from "../../wire/fault.ts";

/** A line of a container, as the table has it. */
export interface Row {
  /** `_timestamp_d`, seconds since 1970. */
  readonly time: number;
  /** `ContainerGroupName_s` */
  readonly replica: string;
  /** `ContainerName_s` */
  readonly container: string;
  /** `Log_s` */
  readonly line: string;
}

/** The lines that a query chooses. */
export interface Lines {
  readonly replica: string;
  readonly replicaPrefix: string;
  readonly container: string;
  readonly bound: { readonly operator: string; readonly time: number } | undefined;
  readonly order: string;
  readonly most: number;
}

/** A string of Kusto's, with no escapes but by code. */
const text = String.raw`"((?:[^"\\\n]|\\u[0-9a-fA-F]{4})*)"`;
const form = new RegExp(
  [
    "ContainerAppConsoleLogs_CL",
    String.raw`\| where ContainerGroupName_s == ${text} or ContainerGroupName_s startswith_cs ${text}`,
    String.raw`\| where ContainerName_s == ${text}`,
    String.raw`(?:\| where _timestamp_d (<=?|>=?) (\d+(?:\.\d+)?)\n)?\| order by _timestamp_d (asc|desc)`,
    String.raw`\| take (\d+)`,
    String.raw`\| project _timestamp_d, Log_s`,
  ].join("\n"),
);

/** @throws ArmFault 501 for another query than the backend's */
export function readQuery(query: string): Lines {
  const [whole, replica = "", replicaPrefix = "", container = "", operator, time, order = "", most] =
    form.exec(query) ?? [];
  if (whole !== query) {
    throw new ArmFault(501, "NotSimulated", `another query than the backend's: ${query}`);
  }
  return {
    replica: literal(replica),
    replicaPrefix: literal(replicaPrefix),
    container: literal(container),
    bound: operator === undefined ? undefined : { operator, time: Number(time) },
    order,
    most: Number(most),
  };
}

/** Time and text of the rows that a query chooses. */
export function chosen(
  { replica, replicaPrefix, container, bound, order, most }: Lines,
  rows: readonly Row[],
): readonly (readonly [number, string])[] {
  return rows
    .filter((row) => row.replica === replica || row.replica.startsWith(replicaPrefix))
    .filter((row) => row.container === container)
    .filter(({ time }) => bound === undefined || holds(bound.operator, time - bound.time))
    .toSorted((one, other) => (order === "asc" ? one.time - other.time : other.time - one.time))
    .slice(0, most)
    .map(({ time, line }) => [time, line]);
}

function holds(operator: string, difference: number): boolean {
  return difference === 0 ? operator.endsWith("=") : difference < 0 === operator.startsWith("<");
}

function literal(content: string): string {
  return content.replace(/\\u(.{4})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}
