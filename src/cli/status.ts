/** `sockerless status`: what runs, what waits and what is wrong, asked of the Docker API. */
import * as v from "valibot";

import { mustRead, object, wholeNumber } from "../common/documents.ts";
import { type DaemonMember, processTree } from "../common/process-tree.ts";
import { findDaemons, stateDirectoryOf } from "./daemon-processes.ts";
import { askDocker } from "./docker-api.ts";

const labelsSchema = object({ Labels: v.nullish(v.array(v.string())) });

const infoSchema = object({
  ...labelsSchema.entries,
  Name: v.string(),
  Images: wholeNumber,
  ContainersRunning: wholeNumber,
  ContainersPaused: wholeNumber,
  ContainersStopped: wholeNumber,
  DockerRootDir: v.string(),
  Warnings: v.nullish(v.array(v.string())),
});

/** A label of the daemon in the parsed answer of `GET /info`. */
function labelOf({ Labels }: v.InferOutput<typeof labelsSchema>, name: string): string | undefined {
  return Labels?.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
}

const containersSchema = v.array(
  object({ Id: v.string(), Names: v.array(v.string()), State: v.string(), Status: v.string() }),
);

/** A daemon at a glance. */
export interface DaemonStatus {
  readonly host: string;
  readonly backend: string;
  readonly version: string;
  /** The machine's name, or the cloud's. */
  readonly name: string;
  readonly stateDirectory: string;
  readonly containers: { readonly running: number; readonly paused: number; readonly stopped: number };
  readonly images: number;
  /** Tasks that wait for containers; empty where none can be prepared. */
  readonly pool: string;
  /** Starts that wait for room on the platform. */
  readonly waiting: readonly { readonly id: string; readonly name: string; readonly status: string }[];
  /** Processes of a daemon on this machine; empty where it is another's or runs elsewhere. */
  readonly processes: readonly DaemonMember[];
  readonly warnings: readonly string[];
}

/** @param host `unix:///path` or `tcp://host:port` @throws system: nothing answers there, or it is refused */
export async function readStatus(host: string, environment: NodeJS.ProcessEnv): Promise<DaemonStatus> {
  const [told, listed] = await Promise.all([
    askDocker(host, "/info", environment),
    askDocker(host, "/containers/json?all=1", environment),
  ]);
  const info = mustRead(infoSchema, told);
  const label = (name: string): string => labelOf(info, name) ?? "";
  return {
    host,
    backend: label("sockerless.backend"),
    version: label("sockerless.version"),
    name: info.Name,
    stateDirectory: info.DockerRootDir,
    containers: {
      running: info.ContainersRunning,
      paused: info.ContainersPaused,
      stopped: info.ContainersStopped,
    },
    images: info.Images,
    pool: label("sockerless.pool"),
    waiting: mustRead(containersSchema, listed)
      .filter(({ Status }) => Status.includes("(waits: "))
      .map(({ Id, Names: [name = ""], Status }) => ({
        id: Id,
        name: name.replace(/^\//, ""),
        status: Status,
      })),
    processes: processesOf(host, info.DockerRootDir),
    warnings: info.Warnings ?? [],
  };
}

/** The daemon's line about prepared tasks; undefined where there can be none. @throws as {@link readStatus} */
export async function readPoolLabel(
  host: string,
  environment: NodeJS.ProcessEnv,
): Promise<string | undefined> {
  return labelOf(mustRead(labelsSchema, await askDocker(host, "/info", environment)), "sockerless.pool");
}

/** Lines for a terminal. */
export function statusTable(status: DaemonStatus): string[] {
  const { running, paused, stopped } = status.containers;
  const rows: (readonly [string, string])[] = [
    ["Docker API", status.host],
    ["Backend", `${status.backend} ${status.version} on ${status.name}`],
    ["State", status.stateDirectory],
    ["Containers", `${running} running, ${paused} paused, ${stopped} stopped`],
    ["Images", String(status.images)],
    ...(status.pool === "" ? [] : [["Pool", status.pool] as const]),
    ...status.waiting.map(({ name, status: text }) => ["Waiting", `${name}: ${text}`] as const),
    ...status.processes.map(
      ({ program, pid, bytes }) =>
        ["Process", `${program} ${pid}, ${Math.round(bytes / 1024 ** 2)} MiB`] as const,
    ),
    ...status.warnings.map((warning) => ["Warning", warning.replace(/^WARNING: /, "")] as const),
  ];
  return rows.map(([name, value]) => `${name.padEnd(12)}${value}`);
}

/** A daemon that is reached by a socket is one of this machine, and known by its state directory. */
function processesOf(host: string, stateDirectory: string): readonly DaemonMember[] {
  const directory = host.startsWith("unix://") ? stateDirectoryOf(stateDirectory) : undefined;
  const daemons = directory === undefined ? [] : findDaemons(directory);
  return daemons.filter(({ isKnown }) => isKnown).flatMap(({ pid }) => processTree(pid));
}
