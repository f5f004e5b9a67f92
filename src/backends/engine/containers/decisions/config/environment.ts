/** The environment of a container's processes. */
import type { ExecConfig } from "../../../../../gen/sockerless/backend/v1/exec_pb.ts";
import type { ContainerRecord } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { isOfBuild } from "../../../../model/build-label.ts";
import { configOf } from "../../../../model/records.ts";
import { nameOf } from "./merge-config.ts";

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The complete environment: PATH, HOSTNAME and, on a terminal, TERM, overridden by the container's own entries. A build
 * step has no HOSTNAME, as in BuildKit.
 *
 * @param tty whether this process has a terminal (an exec may where the main process has none)
 * @param extra an exec's entries, which override all others; one without `=` removes the variable
 * @param linked variables of linked containers, overridden by the container's own entries
 */
export function environmentOf(
  record: ContainerRecord,
  tty: boolean,
  extra: readonly string[] = [],
  linked: readonly string[] = [],
): readonly string[] {
  const config = configOf(record);
  const defaults = [
    `PATH=${defaultPath}`,
    ...(isOfBuild(config.labels) ? [] : [`HOSTNAME=${config.hostname}`]),
    ...(tty ? ["TERM=xterm"] : []),
    ...linked,
  ];
  const entries = new Map<string, string>();
  for (const entry of [...defaults, ...config.env, ...extra]) {
    if (entry.includes("=")) {
      entries.set(nameOf(entry), entry);
    } else {
      entries.delete(entry);
    }
  }
  return [...entries.values()];
}

/**
 * The environment of an exec, for agents: a difference to the main process's. A variable that only the main process has
 * (TERM, if only the container has a terminal) is removed by its bare name.
 *
 * @param linked variables of linked containers
 */
export function execEnvironment(
  record: ContainerRecord,
  { tty, env }: Pick<ExecConfig, "tty" | "env">,
  linked: readonly string[],
): readonly string[] {
  const own = environmentOf(record, tty, env, linked);
  const names = new Set(own.map(nameOf));
  const removed = environmentOf(record, configOf(record).tty, [], linked)
    .map(nameOf)
    .filter((name) => !names.has(name));
  return [...own, ...removed];
}
