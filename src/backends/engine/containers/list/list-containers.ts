/** `docker ps`: selects the containers of a listing, newest first. */
import { statusName, statusOfName } from "../../../../common/container-status.ts";
import { invalid, notFound } from "../../../../common/errors.ts";
import { atoi } from "../../../../common/go-values.ts";
import type { ListContainersRequest } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { asksForBuilds, isOfBuild } from "../../../model/build-label.ts";
import { Filters } from "../../../model/filters.ts";
import type { State } from "../../../state/state.ts";
import type { ContainerNames } from "../decisions/links/link-names.ts";
import { healthName } from "../decisions/life/health.ts";
import { type PortRange, parsePortRange } from "../../../model/ports.ts";
import { configOf, hasProcess, isActive, isVisible, nanosecondsOf, stateOf } from "../../../model/records.ts";

const acceptedFilters = [
  "ancestor",
  "before",
  "exited",
  "expose",
  "health",
  "id",
  "is-task",
  "isolation",
  "label",
  "name",
  "network",
  "publish",
  "since",
  "status",
  "volume",
] as const;

const healthNames = ["none", "starting", "healthy", "unhealthy"];

/** Lists containers. @throws invalid: a filter; not-found: the container in `before` or `since` */
export function listContainers(
  context: EngineContext,
  request: ListContainersRequest,
  names: ContainerNames,
): ContainerRecord[] {
  const query = new ListQuery(context, request, names);
  const showsBuilds = asksForBuilds(request.filters);
  const containers = [...context.state.containers.values()]
    .filter((record) => isVisible(record) && (showsBuilds || !isOfBuild(configOf(record).labels)))
    .sort(newestFirst);
  return query.choose(containers);
}

/** Newest containers first; with equal times, the one that is later in the state. */
function newestFirst(a: ContainerRecord, b: ContainerRecord): number {
  const [at, bt] = [nanosecondsOf(a.created), nanosecondsOf(b.created)];
  if (at !== bt) {
    return at < bt ? 1 : -1;
  }
  return a.id < b.id ? 1 : -1;
}

class ListQuery {
  readonly #names: ContainerNames;
  readonly #filters: Filters;
  readonly #all: boolean;
  readonly #limit: number;
  readonly #exitCodes: readonly number[];
  readonly #isTask: boolean;
  readonly #ancestors: ReadonlySet<string> | undefined;
  readonly #published: PortSet;
  readonly #exposed: PortSet;
  readonly #before: string | undefined;
  readonly #since: string | undefined;

  constructor(context: EngineContext, request: ListContainersRequest, names: ContainerNames) {
    const filters = new Filters(request.filters, acceptedFilters);
    this.#names = names;
    this.#filters = filters;
    this.#limit = request.limit;
    this.#exitCodes = filters.get("exited").map((text) => atoi(text, `invalid filter 'exited=${text}'`));
    for (const status of filters.get("status")) {
      refuseUnknown("status", "state", status, [...statusOfName.keys()]);
    }
    for (const health of filters.get("health")) {
      refuseUnknown("health", "health", health, healthNames);
    }
    this.#all = request.all || request.limit > 0 || filters.get("status").length > 0;
    this.#isTask = filters.boolean("is-task") === true;
    this.#ancestors = filters.has("ancestor")
      ? context.images.descentOf(filters.get("ancestor").flatMap((image) => context.images.idOf(image) ?? []))
      : undefined;
    this.#published = new PortSet("publish", filters.get("publish"));
    this.#exposed = new PortSet("expose", filters.get("expose"));
    this.#before = lastOf(context.state, filters.get("before"));
    this.#since = lastOf(context.state, filters.get("since"));
  }

  /** @param containers newest first */
  choose(containers: readonly ContainerRecord[]): ContainerRecord[] {
    const chosen: ContainerRecord[] = [];
    let isBefore = this.#before === undefined;
    for (const record of containers) {
      if (record.id === this.#since || (this.#limit > 0 && chosen.length === this.#limit)) {
        break;
      }
      if (isBefore && this.#includes(record)) {
        chosen.push(record);
      }
      isBefore ||= record.id === this.#before;
    }
    return chosen;
  }

  #includes(record: ContainerRecord): boolean {
    const filters = this.#filters;
    const state = stateOf(record);
    return (
      (this.#all || isActive(record)) &&
      !this.#isTask &&
      this.#includesName(record) &&
      (filters.get("id").length === 0 || filters.hasPrefix("id", record.id)) &&
      filters.matchesPairs("label", configOf(record).labels) &&
      this.#includesExit(record) &&
      filters.matches("status", statusName(stateOf(record).status)) &&
      filters.matchesExactly("health", healthName(state.health?.status)) &&
      this.#includesMounts(record) &&
      (this.#ancestors === undefined || this.#ancestors.has(record.imageId)) &&
      this.#includesNetworks(record) &&
      this.#includesPorts(record)
    );
  }

  /** With or without leading slash. */
  #includesName(record: ContainerRecord): boolean {
    return (
      !this.#filters.has("name") ||
      this.#names
        .of(record)
        .flatMap((name) => [name, name.slice(1)])
        .some((name) => this.#filters.matches("name", name))
    );
  }

  #includesExit(record: ContainerRecord): boolean {
    const state = stateOf(record);
    return (
      this.#exitCodes.length === 0 ||
      (!isActive(record) && state.startedAt !== undefined && this.#exitCodes.includes(state.exitCode))
    );
  }

  #includesMounts(record: ContainerRecord): boolean {
    const filters = this.#filters;
    return (
      !filters.has("volume") ||
      record.mounts.some(
        ({ destination, name, source }) =>
          filters.hasValue("volume", destination) || filters.hasValue("volume", name || source),
      )
    );
  }

  #includesNetworks(record: ContainerRecord): boolean {
    const filters = this.#filters;
    const isAny = filters.hasValue("network", ""); // A prefix of each ID.
    return (
      !filters.has("network") ||
      Object.entries(record.endpoints).some(
        ([name, { networkId }]) =>
          isAny || filters.hasValue("network", name) || filters.hasPrefix("network", networkId),
      )
    );
  }

  #includesPorts(record: ContainerRecord): boolean {
    if (this.#published.isEmpty && this.#exposed.isEmpty) {
      return true;
    }
    return (
      hasProcess(record) &&
      record.boundPorts.some(
        (port) =>
          this.#published.has(port.publicPort, port.type) || this.#exposed.has(port.privatePort, port.type),
      )
    );
  }
}

/** The ports in any of a filter's ranges. */
class PortSet {
  readonly isEmpty: boolean;
  /** By protocol, a byte for each port. */
  readonly #ports = new Map(["tcp", "udp", "sctp"].map((protocol) => [protocol, new Uint8Array(65_536)]));

  /** @throws invalid: no range of ports */
  constructor(filter: string, ranges: readonly string[]) {
    this.isEmpty = ranges.length === 0;
    for (const text of ranges) {
      const { protocol, first, last } = portRangeOf(filter, text);
      this.#ports.get(protocol)?.fill(1, first, last + 1);
    }
  }

  has(port: number, protocol: string): boolean {
    return this.#ports.get(protocol)?.[port] === 1;
  }
}

/** Ports of one protocol. */
interface ProtocolPorts extends PortRange {
  readonly protocol: string;
}

function portRangeOf(filter: string, text: string): ProtocolPorts {
  if (text.includes(":")) {
    throw invalid(`filter for '${filter}' should not contain ':': ${text}`);
  }
  const [ports = "", protocol = "tcp"] = text.split("/");
  const range = parsePortRange(ports);
  if (range === undefined) {
    throw invalid(`error while looking up for ${filter} ${text}: invalid port range: ${ports}`);
  }
  return { ...range, protocol: protocol.toLowerCase() };
}

/** @throws invalid: the filter has no such value */
function refuseUnknown(filter: string, what: string, value: string, known: readonly string[]): void {
  if (!known.includes(value)) {
    throw invalid(
      `invalid filter '${filter}=${value}': invalid value for ${what} (${value}): must be one of ${known.join(", ")}`,
    );
  }
}

/** The ID of the last of some containers, by full ID or name, as in dockerd. @throws not-found: one of them */
function lastOf({ containers }: State, references: readonly string[]): string | undefined {
  let last: string | undefined;
  for (const reference of references) {
    const named = [containers.get(reference), ...containers.named(reference.replace(/^\//, ""))];
    last = named.find((record) => record !== undefined && isVisible(record))?.id;
    if (last === undefined) {
      throw notFound(`No such container: ${reference}`);
    }
  }
  return last;
}
