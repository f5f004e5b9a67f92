/** The configured pool: which tasks to keep waiting, and how many. */
import { create } from "@bufbuild/protobuf";

import { parseSize } from "../../../common/config/units.ts";
import { messageOf, notFound } from "../../../common/errors.ts";
import { HostConfigSchema, ResourcesSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerRecordSchema,
  type ImageRecord,
  type NetworkRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import type { TaskRequests } from "../contract/cloud-tasks.ts";

/** Tasks to keep waiting. */
export interface Wanted {
  /** The request that a matching container would make. */
  readonly request: string;
  /** The containers that they are for, as in the configuration. */
  readonly kind: string;
  readonly count: number;
  /** The number above which some are stopped; default: the count. */
  readonly most?: number;
}

/** A part of each day (UTC), possibly past midnight, in minutes after midnight. */
interface Hours {
  readonly from: number;
  readonly to: number;
}

/** One entry of `pool.images`. */
export interface PoolEntry {
  /** Its text without the count and the hours. */
  readonly kind: string;
  readonly image: string;
  readonly count: number;
  /** 0 if none are requested. */
  readonly cpus: number;
  /** Bytes; 0 if none are requested. */
  readonly memory: number;
  readonly network: string;
  /** Undefined: all day. */
  readonly hours: Hours | undefined;
}

/** The images and networks that templates are made from. */
export interface TemplateSources {
  /** @throws not-found, invalid */
  readonly findImage: (reference: string) => ImageRecord;
  readonly networks: () => Iterable<NetworkRecord>;
  readonly requests: Pick<TaskRequests, "make">;
}

const minuteMs = 60_000;
const minutesOfDay = 24 * 60;
/** The network of containers that request none. */
export const defaultNetwork = "bridge";
const nanosPerCpu = 1e9;

/**
 * Parses `image=count cpus=N memory=SIZE network=NAME hours=HH:MM-HH:MM`, whose form the configuration has validated.
 */
export function parseEntry(text: string): PoolEntry {
  const [first = "", ...rest] = text.split(" ");
  const [image = "", count] = first.split("=");
  const given = new Map(rest.map((part) => part.split("=") as [string, string]));
  return {
    kind: [image, ...rest.filter((part) => !part.startsWith("hours="))].join(" "),
    image,
    count: Number(count),
    cpus: Number(given.get("cpus") ?? 0),
    memory: parseSize(given.get("memory") ?? "0") ?? 0,
    network: given.get("network") ?? defaultNetwork,
    hours: hoursOf(given.get("hours")),
  };
}

function hoursOf(text: string | undefined): Hours | undefined {
  const [from = 0, to = 0] = (text?.split("-") ?? []).map((time) => {
    const [hour = 0, minute = 0] = time.split(":").map(Number);
    return hour * 60 + minute;
  });
  return text === undefined ? undefined : { from, to };
}

/** Whether an entry wants tasks at a time. */
function isAsking({ hours }: PoolEntry, nowMs: number): boolean {
  if (hours === undefined) {
    return true;
  }
  const { from, to } = hours;
  const now = Math.floor(nowMs / minuteMs) % minutesOfDay;
  return from < to ? from <= now && now < to : from <= now || now < to;
}

/**
 * The tasks of the entries that want them now, and can be prepared.
 *
 * @param missed receives each other entry, with the reason: its image is not here, its network does not exist
 */
export async function wantedTasks(
  entries: readonly PoolEntry[],
  nowMs: number,
  sources: TemplateSources,
  missed: (entry: PoolEntry, reason: string) => void,
): Promise<readonly Wanted[]> {
  const asking = entries.filter((entry) => isAsking(entry, nowMs));
  const made = await Promise.all(
    asking.map(async (entry) => {
      try {
        const request = await sources.requests.make(specOf(entry, sources), (_stillTo, step) => step());
        return [{ request, kind: entry.kind, count: entry.count }];
      } catch (error) {
        missed(entry, messageOf(error));
        return [];
      }
    }),
  );
  return made.flat();
}

/** A container as described by an entry. @throws not-found, invalid */
function specOf(
  { image: reference, cpus, memory, network: name }: PoolEntry,
  { findImage, networks }: TemplateSources,
): WorkloadSpec {
  const image = findImage(reference);
  const network = [...networks()].find((record) => record.network?.name === name);
  if (network === undefined) {
    throw notFound(`network ${name} not found`);
  }
  const resources = create(ResourcesSchema, {
    nanoCpus: BigInt(Math.round(cpus * nanosPerCpu)),
    memory: BigInt(memory),
  });
  return {
    record: create(ContainerRecordSchema, { hostConfig: create(HostConfigSchema, { resources }) }),
    image,
    args: [],
    env: [],
    mounts: [],
    network: { kind: "networks", networks: [{ name, record: network }] },
  };
}
